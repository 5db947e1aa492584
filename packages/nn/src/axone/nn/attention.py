"""Multi-head attention as a layer.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", https://arxiv.org/abs/2305.13245
.. [3] A. Henry et al., "Query-Key Normalization for Transformers", https://arxiv.org/abs/2010.04245
"""

from typing import Literal, NoReturn, overload

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, record
from axone.nn.cache import KVCache
from axone.nn.dropout import Dropout
from axone.nn.functional import packed_attention, packed_rms_norm, packed_rotary
from axone.nn.functional.attention import Mask, attend, attention_weights, split_heads
from axone.nn.functional.checks import misfit, sizes
from axone.nn.linear import Linear
from axone.nn.module import Module
from axone.nn.norm import RMSNorm
from axone.nn.position import Positions, RotaryEmbedding


class MultiHeadAttention(Module):
    """Several attention heads side by side, with one product for all their queries, keys and values.

    Queries, keys and values stay in the one array that this product makes: what changes queries and keys on the way
    goes from packed to packed.

    Parameters
    ----------
    dim : int
        C, the width before and after.
    num_heads : int
        H.
    num_kv_heads : int, optional
        K, by default H: each key and value head serves ``H / K`` query heads.
    head_dim : int, optional
        D, by default ``C / H``.
    bias : bool, default True
        Whether the linear layers add a bias.
    qkv_bias : bool, optional
        Whether `qkv_proj` adds a bias, by default as `bias`.
    causal : bool, default True
        Whether a position sees only itself and those before.
    dropout : float, default 0.0
        The probability of dropping an element of the output in training.
    rotary : RotaryEmbedding, optional
        Rotates queries and keys by their positions.
    qk_norm : bool, default False
        Whether queries and keys are normalized, head by head, before they are rotated.
    rng : numpy.random.Generator, optional
        Where the first values and the masks come from; None draws a fresh one.

    Attributes
    ----------
    qkv_proj : Linear
        From C to ``(H + 2 K) D``: the heads of the queries, then of the keys, then of the values.
    out_proj : Linear
        From ``H D`` to C.
    q_norm, k_norm : RMSNorm or None
        Over D, shared by the heads.

    Raises
    ------
    ValueError
        If the heads do not divide, or the rotary's width is not D.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import MultiHeadAttention
    >>> attention = MultiHeadAttention(8, 4, num_kv_heads=2)
    >>> attention(Tensor(np.ones((1, 3, 8), np.float32))).shape
    (1, 3, 8)
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
        causal: bool = True,
        dropout: float = 0.0,
        rotary: RotaryEmbedding | None = None,
        qk_norm: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        H, K = num_heads, num_heads if num_kv_heads is None else num_kv_heads
        sizes("MultiHeadAttention", dim=dim, num_heads=H, num_kv_heads=K)
        if H < 1 or K < 1:
            raise ValueError(
                f"MultiHeadAttention needs num_heads and num_kv_heads of at least 1, and they are {H} and {K}"
            )
        if H % K:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads: {H} of {K}")
        if head_dim is None and dim % H:
            raise ValueError(f"dim must be a multiple of num_heads, or head_dim be given: {dim} of {H}")
        D = dim // H if head_dim is None else head_dim
        if rotary is not None and rotary.head_dim != D:
            raise ValueError(f"the rotary embedding must be of head_dim {D}, and it is of {rotary.head_dim}")
        self.num_heads, self.num_kv_heads, self.head_dim = H, K, D
        self.causal = causal
        self.qkv_proj = Linear(dim, (H + 2 * K) * D, bias=bias if qkv_bias is None else qkv_bias, rng=rng)
        self.out_proj = Linear(H * D, dim, bias=bias, rng=rng)
        self.q_norm = RMSNorm(D) if qk_norm else None
        self.k_norm = RMSNorm(D) if qk_norm else None
        self.rotary = rotary
        self.dropout = Dropout(dropout, rng=rng.spawn(1)[0])

    @overload
    def __call__(
        self,
        x: Tensor,
        *,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        x: Tensor,
        *,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: Literal[True],
    ) -> tuple[Tensor, Array]: ...
    def __call__(
        self,
        x: Tensor,
        *,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Array]:
        """Return what each position gathers from those that it sees.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask : ndarray of bool, broadcasts to (B, H, T, S), optional
            True where a position may see another; S counts those in the cache too. A position that may see none
            gathers zeros.
        cache : KVCache, optional
            Holds the positions before these, and takes these in; for inference only.
        positions : ndarray of int, shape (T,) or (B, T), optional
            Where the rotary embedding takes these positions to be; by default they follow those in the cache.
        return_weights : bool, default False
            Whether to return the attention weights too, for a look at them: they are not recorded.

        Returns
        -------
        out : Tensor, shape (B, T, C)
        weights : ndarray, shape (B, H, T, S)
            Only with `return_weights`.

        Raises
        ------
        ValueError
            If a shape does not fit, or the cache has no room.
        """
        C = self.out_proj.weight.shape[0]
        if x.ndim != 3 or x.shape[2] != C:
            raise misfit(self._summary(), f"(B, T, {C})", x.shape)
        H, K = self.num_heads, self.num_kv_heads
        qkv = self._packed(x, 0 if cache is None else cache.length, positions)  # (B, T, (H + 2K) D)
        if cache is None and not return_weights:
            return self.dropout(self.out_proj(packed_attention(qkv, H, K, mask=mask, causal=self.causal)))
        q, k, v = split_heads(qkv.data, H, K)
        if cache is None:
            out = packed_attention(qkv, H, K, mask=mask, causal=self.causal)  # (B, T, H D)
        else:
            keys, values = cache.append(k[:, :, 0], v[:, :, 0])  # (B, K, S, D)
            k, v = keys[:, :, None], values[:, :, None]
            out = record("cached_attention", attend(q, k, v, mask=mask, causal=self.causal), (qkv,), _no_way_back)
        out = self.dropout(self.out_proj(out))
        return (out, attention_weights(q, k, mask=mask, causal=self.causal)) if return_weights else out

    def _packed(self, x: Tensor, first: int, positions: Positions | None) -> Tensor:
        """Return queries, keys and values, the first two normalized and rotated."""
        H, K = self.num_heads, self.num_kv_heads
        qkv = self.qkv_proj(x)
        if self.q_norm is not None and self.k_norm is not None:
            qkv = packed_rms_norm(qkv, self.q_norm.weight, self.k_norm.weight, H, K, eps=self.q_norm.eps)
        if self.rotary is not None:
            positions = np.arange(first, first + x.shape[1]) if positions is None else positions
            qkv = packed_rotary(qkv, *self.rotary.tables(positions, qkv.dtype), H, K)
        return qkv

    def extra_repr(self) -> str:
        """Return the layer's width and numbers of heads."""
        shared = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        return f"{self.out_proj.weight.shape[0]}, num_heads={self.num_heads}{shared}"


def _no_way_back(_: Array) -> NoReturn:
    """Refuse a backward through a cache, which does not know where its keys and values came from."""
    raise RuntimeError("a KVCache is for inference and holds no gradients: train without one")
