"""Multi-head attention as a layer."""

import numpy as np

from axone.autograd import Tensor
from axone.nn import init
from axone.nn.cache import KVCache
from axone.nn.dropout import Dropout
from axone.nn.functional import packed_attention
from axone.nn.functional.attention import Mask, group_heads, mask_bias, split_heads
from axone.nn.functional.attention_kernel import attention_forward
from axone.nn.linear import Linear
from axone.nn.module import Module


class MultiHeadAttention(Module):
    """Several attention heads side by side, with one product for all their queries, keys and values.

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
    causal : bool, default True
        Whether a position sees only itself and those before.
    dropout : float, default 0.0
        The probability of dropping an element of the output in training.
    rng : numpy.random.Generator, optional
        Where the first values and the masks come from; None draws a fresh one.

    Raises
    ------
    ValueError
        If the heads do not divide.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        causal: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = init.generator(rng)
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads: {num_heads} of {num_kv_heads}")
        if head_dim is None and dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, or head_dim be given: {dim} of {num_heads}")
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.causal = causal
        self.qkv_proj = Linear(dim, (num_heads + 2 * self.num_kv_heads) * self.head_dim, bias=bias, rng=rng)
        self.out_proj = Linear(num_heads * self.head_dim, dim, bias=bias, rng=rng)
        self.dropout = Dropout(dropout, rng=rng.spawn(1)[0])

    def __call__(self, x: Tensor, *, mask: Mask | None = None, cache: KVCache | None = None) -> Tensor:
        """Return what each position gathers from those that it sees.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask : ndarray of bool, broadcasts to (B, H, T, S), optional
            True where a position may see another; S counts those in the cache too.
        cache : KVCache, optional
            Holds the positions before these, and takes these in; not recorded, so for inference only.

        Returns
        -------
        Tensor, shape (B, T, C)
        """
        qkv = self.qkv_proj(x)  # (B, T, (H + 2K) D)
        if cache is None:
            out = packed_attention(qkv, self.num_heads, self.num_kv_heads, mask=mask, causal=self.causal)
        else:
            out = self._cached(qkv, mask, cache)
        return self.dropout(self.out_proj(out))

    def _cached(self, qkv: Tensor, mask: Mask | None, cache: KVCache) -> Tensor:
        """Attend to the cached positions and these."""
        B, T, _ = qkv.shape
        H, K = self.num_heads, self.num_kv_heads
        q, k, v = split_heads(qkv.data, H, K)
        keys, values = cache.append(k[:, :, 0], v[:, :, 0])  # (B, K, S, D)
        keys, values = keys[:, :, None], values[:, :, None]
        bias = mask_bias(mask, (B, H, T, cache.length), K, qkv.dtype)
        out = np.empty((B, T, H * self.head_dim), qkv.dtype)
        attention_forward(q, keys, values, bias=bias, causal=self.causal, out=group_heads(out, H, K), keep=False)
        return Tensor(out)

    def describe(self) -> str:
        """Return the layer with its heads."""
        shared = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        return f"MultiHeadAttention({self.out_proj.weight.shape[0]}, num_heads={self.num_heads}{shared})"
