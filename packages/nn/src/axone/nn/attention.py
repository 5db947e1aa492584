"""MultiHeadAttention: attention with several heads, for training and for decoding with a cache.

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
from axone.nn.cache import KVCache, RowCache
from axone.nn.decoding import CachedForward, CachedModule, DecodeContext
from axone.nn.dropout import Dropout
from axone.nn.functional import (
    packed_attention,
    packed_rms_norm,
    packed_rms_norm_rotary,
    packed_rotary,
    prefix_attention,
)
from axone.nn.functional.attention import attend, attention_weights, default_scale, split_heads
from axone.nn.functional.decode_attention import decode_attention, packed_decode_attention
from axone.nn.functional.linear import Dense, dense_product
from axone.nn.functional.prefix_attention import AttentionMask, SharedPrefix
from axone.nn.functional.rotary import rotate_in_place
from axone.nn.functional.validation import check_sizes, shape_error
from axone.nn.linear import Linear
from axone.nn.norm import RMSNorm
from axone.nn.position import Positions, RotaryEmbedding


class MultiHeadAttention(CachedModule):
    """Attention with several heads, and one product for the queries, keys and values of all heads.

    Queries, keys and values stay in the one array that this product returns: norms and rotations of queries and keys read
    and return packed arrays.

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
        Whether a position attends only to itself and earlier ones.
    dropout : float, default 0.0
        Probability of dropping an element of the output, not of the attention weights, in training.
    rotary : RotaryEmbedding, optional
        Rotates queries and keys by their positions.
    qk_norm : bool, default False
        Whether queries and keys are normalized, head by head, before they are rotated.
    qk_norm_eps : float, default 1e-6
        Added to the mean square in these norms.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.
    rng : numpy.random.Generator, optional
        Draws the initial values and the dropout masks; None makes a new one.

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
        If the numbers of heads do not divide, or the rotary embedding has another width than D.

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
        qk_norm_eps: float = 1e-6,
        scale: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        H, K = num_heads, num_heads if num_kv_heads is None else num_kv_heads
        check_sizes("MultiHeadAttention", dim=dim, num_heads=H, num_kv_heads=K)
        if H < 1 or K < 1:
            raise ValueError(f"num_heads ({H}) and num_kv_heads ({K}) must be at least 1")
        if H % K:
            raise ValueError(f"num_heads ({H}) must be divisible by num_kv_heads ({K})")
        if head_dim is None and dim % H:
            raise ValueError(f"dim ({dim}) must be divisible by num_heads ({H}): or give head_dim")
        D = dim // H if head_dim is None else head_dim
        if rotary is not None and rotary.head_dim != D:
            raise ValueError(
                f"head_dim ({rotary.head_dim}) of the rotary embedding must be {D}, the width of the heads"
            )
        self.num_heads, self.num_kv_heads, self.head_dim = H, K, D
        self.causal = causal
        self.scale = default_scale(D) if scale is None else scale
        self.qkv_proj = Linear(dim, (H + 2 * K) * D, bias=bias if qkv_bias is None else qkv_bias, rng=rng)
        self.out_proj = Linear(H * D, dim, bias=bias, rng=rng)
        self.q_norm = RMSNorm(D, eps=qk_norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(D, eps=qk_norm_eps) if qk_norm else None
        self.rotary = rotary
        self.dropout = Dropout(dropout, rng=rng.spawn(1)[0])

    @overload
    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: Literal[True],
    ) -> tuple[Tensor, Array]: ...
    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Array]:
        """Return the attended values of all heads, projected to width C.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask : ndarray of bool, broadcasts to (B, H, T, S), or SharedPrefix, optional
            True where a position may attend to another; S includes the positions in the cache. A position that may attend
            to none gets zeros. With a `SharedPrefix`, `x` holds the shared positions once: it has shape (1, P + B T, C).
        cache : KVCache, optional
            Holds the earlier positions, and receives these; for inference only.
        positions : ndarray of int, shape (T,) or (B, T), optional
            For the rotary embedding; by default they follow those in the cache.
        return_weights : bool, default False
            Whether to return the attention weights too; they are not recorded.

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
            raise shape_error(self._summary(), f"(B, T, {C})", x.shape)
        H, K, causal, scale = self.num_heads, self.num_kv_heads, self.causal, self.scale
        if positions is None and isinstance(mask, SharedPrefix):
            positions = mask.positions(x.shape[1])
        qkv = self._packed(x, 0 if cache is None else cache.length, positions)  # (B, T, (H + 2K) D)
        if isinstance(mask, SharedPrefix):
            if not causal or cache is not None or return_weights:
                raise ValueError(
                    "a SharedPrefix is for training a causal layer: without a cache, and without return_weights"
                )
            return self.dropout(self.out_proj(prefix_attention(qkv, H, K, mask, scale=scale)))
        if cache is None and not return_weights:
            return self.dropout(self.out_proj(packed_attention(qkv, H, K, mask=mask, causal=causal, scale=scale)))
        q, k, v = split_heads(qkv.data, H, K)
        if cache is None:
            out = packed_attention(qkv, H, K, mask=mask, causal=causal, scale=scale)  # (B, T, H D)
        else:
            keys, values = cache.append(k[:, :, 0], v[:, :, 0])  # (B, K, S, D)
            k, v = keys[:, :, None], values[:, :, None]
            attended = attend(q, k, v, mask=mask, causal=causal, scale=scale)
            out = record("cached_attention", attended, (qkv,), _no_way_back)
        out = self.dropout(self.out_proj(out))
        return (out, attention_weights(q, k, mask=mask, causal=causal, scale=scale)) if return_weights else out

    def cached_inference(self, dense: Dense = dense_product) -> CachedForward:
        """Return the layer's forward on plain arrays, with a cache."""
        qkv_proj, out_proj = self.qkv_proj.inference(dense), self.out_proj.inference(dense)
        attend_heads = self.heads_inference(self.num_kv_heads)
        return lambda x, cache, context: out_proj(attend_heads(qkv_proj(x), cache, context))

    def qkv_rows(self, kv_heads: slice) -> tuple[slice, slice, slice]:
        """Return the rows of `qkv_proj` that make the queries, keys and values of some key heads.

        Parameters
        ----------
        kv_heads : slice
            From a first to a last of the K key heads.
        """
        H, K, D = self.num_heads, self.num_kv_heads, self.head_dim
        queries = slice(kv_heads.start * (H // K) * D, kv_heads.stop * (H // K) * D)
        keys, values = (slice((first + kv_heads.start) * D, (first + kv_heads.stop) * D) for first in (H, H + K))
        return queries, keys, values

    def heads_inference(self, num_kv_heads: int) -> CachedForward:
        """Return the attention of some heads on plain arrays: the layer without its products.

        Parameters
        ----------
        num_kv_heads : int
            K, the number of key heads that are computed here, each with its G query heads.

        Returns
        -------
        callable
            From queries, keys and values (N, K (G + 2) D), or one vector of them, and the cache of these heads to
            (N, K G D). It overwrites its input.
        """
        K, D, G = num_kv_heads, self.head_dim, self.num_heads // self.num_kv_heads
        H = K * G
        q_norm = None if self.q_norm is None else self.q_norm.inference()
        k_norm = None if self.k_norm is None else self.k_norm.inference()
        rotary, causal, dtype = self.rotary, self.causal, self.qkv_proj.weight.dtype
        scale = None if self.scale == 1 else np.asarray(self.scale, dtype)
        attend_packed = packed_decode_attention(K, G, D, dtype, ones=RowCache.ONES)

        def forward(qkv: Array, cache: KVCache, context: DecodeContext) -> Array:
            if qkv.ndim == 1 and context.mask is None:
                return decode_one(qkv, cache, context)
            if context.each_alone:
                return decode_each(qkv, cache, context)
            B, T = context.batch, context.positions.shape[-1]
            heads = qkv.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)
            prepare(heads[:, :H], heads[:, H : H + K], heads[:, : H + K], context)
            keys, values = cache.append(heads[:, H : H + K], heads[:, H + K :])  # (B, K, S, D)
            if T == 1 or context.last_only:
                q = heads[:, :H, -1].reshape(B, K, G, D)
                out = decode_attention(q if scale is None else q * scale, keys, values, context.mask)
                return out.reshape(B, H * D) if qkv.ndim == 2 else out.reshape(H * D)
            q = heads[:, :H].reshape(B, K, G, T, D)
            mask = None if context.mask is None else context.mask[:, None, None]
            out = attend(q, keys[:, :, None], values[:, :, None], mask=mask, causal=causal, scale=self.scale)
            return out.reshape(B * T, H * D)

        def decode_one(qkv: Array, cache: KVCache, context: DecodeContext) -> Array:
            """Attend from one position of one sequence: with one axis less, a call of NumPy takes 0.1 us less."""
            if q_norm is not None or rotary is not None:
                heads = qkv.reshape(H + 2 * K, D)
                prepare(heads[:H], heads[H : H + K], heads[: H + K], context)
            q, k, v = qkv[: H * D], qkv[H * D : -K * D], qkv[-K * D :]
            if scale is not None:
                q *= scale
            q = q.reshape(K, G, D)
            if isinstance(cache, RowCache) and cache.is_row_major:
                return attend_packed(q, *cache.append_row(k, v)).reshape(H * D)
            keys, values = cache.append(k.reshape(1, K, 1, D), v.reshape(1, K, 1, D))  # (1, K, S, D)
            return decode_attention(q, keys[0], values[0], None).reshape(H * D)

        def decode_each(qkv: Array, cache: KVCache, context: DecodeContext) -> Array:
            """Attend from a few positions of one sequence: products of the same shapes as in `decode_one`, the rest at once."""
            heads = qkv.reshape(-1, H + 2 * K, D).swapaxes(0, 1)  # (H + 2 K, T, D)
            prepare(heads[:H], heads[H : H + K], heads[: H + K], context)
            q = qkv[:, : H * D]
            if scale is not None:
                q *= scale
            (keys,), (values,) = cache.append(heads[None, H : H + K], heads[None, H + K :])  # (K, S, D)
            out, end = np.empty((len(q), K, G, D), dtype), keys.shape[1] - len(q)
            for own, attended in zip(q.reshape(-1, K, G, D), out):
                end += 1
                attended[...] = decode_attention(own, keys[:, :end], values[:, :end], None)
            return out.reshape(-1, H * D)

        def prepare(q: Array, k: Array, both: Array, context: DecodeContext) -> None:
            """Normalize and rotate queries and keys, in place."""
            if q_norm is not None and k_norm is not None:
                q[...], k[...] = q_norm(q), k_norm(k)
            if rotary is not None:
                cos, sin = rotary.tables(context.positions, both.dtype)  # (T, D / 2) or (B, T, D / 2)
                if cos.ndim == 3:
                    cos, sin = cos[:, None], sin[:, None]
                rotate_in_place(both, cos, sin)

        return forward

    def _packed(self, x: Tensor, first: int, positions: Positions | None) -> Tensor:
        """Return queries, keys and values, the first two normalized and rotated."""
        H, K = self.num_heads, self.num_kv_heads
        qkv = self.qkv_proj(x)
        q_norm, k_norm, rotary = self.q_norm, self.k_norm, self.rotary
        if rotary is None:
            if q_norm is None or k_norm is None:
                return qkv
            return packed_rms_norm(qkv, q_norm.weight, k_norm.weight, H, K, eps=q_norm.eps)
        positions = np.arange(first, first + x.shape[1]) if positions is None else positions
        tables = rotary.tables(positions, qkv.dtype)
        if q_norm is None or k_norm is None:
            return packed_rotary(qkv, *tables, H, K)
        return packed_rms_norm_rotary(qkv, q_norm.weight, k_norm.weight, *tables, H, K, eps=q_norm.eps)

    def extra_repr(self) -> str:
        """Return the layer's width and numbers of heads."""
        shared = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        return f"{self.out_proj.weight.shape[0]}, num_heads={self.num_heads}{shared}"


def _no_way_back(_: Array) -> NoReturn:
    """Refuse a backward through a cache, which does not know where its keys and values came from."""
    raise RuntimeError("a KVCache is for inference and holds no gradients: train without one")
