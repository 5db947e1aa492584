"""Scaled dot-product attention as operations: of separate queries, keys and values, or of one packed array.

The arithmetic is in `attention_kernel`. One product computes queries, keys and values as one packed array. They stay
strided views of it, and their gradients are written into views of another packed array, because NumPy passes such views
to BLAS without a copy as long as the last axis is contiguous.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", https://arxiv.org/abs/2305.13245
"""

import math
from typing import Any, Never, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, needs_grad, record
from axone.nn.functional.attention_kernel import attention_backward, attention_forward, attention_probabilities
from axone.nn.functional.validation import check_dtypes, shape_error
from axone.nn.pytorch import unknown_argument

Mask: TypeAlias = NDArray[np.bool_]
"""True where a query may see a key; broadcasts to (B, H, T, S)."""


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
    **unknown: Never,
) -> Tensor:
    """Return, for each query, the values weighted by the softmax of its scaled products with the keys.

    Parameters
    ----------
    q : Tensor, shape (B, H, T, D)
    k : Tensor, shape (B, K, S, D)
        Each of the K heads serves ``H / K`` consecutive heads of the queries.
    v : Tensor, shape (B, K, S, E)
    mask : ndarray of bool, broadcasts to (B, H, T, S), optional
        True where a query may see a key. A query that may see none gives zeros.
    causal : bool, default False
        Whether a query sees keys up to its own position only, the last query being at the last key.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (B, H, T, E)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the dtypes differ, or the mask is not boolean.
    """
    if unknown:
        raise unknown_argument("scaled_dot_product_attention", unknown)
    check_dtypes("scaled_dot_product_attention", q, k, v)
    fits = q.ndim == k.ndim == v.ndim == 4 and k.shape[1] and q.shape[1] % k.shape[1] == 0
    if not fits or q.shape[::3] != k.shape[::3] or k.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"queries {q.shape}, keys {k.shape} and values {v.shape} must have shapes (B, H, T, D), (B, K, S, D) and "
            "(B, K, S, E), with H divisible by K"
        )
    B, H, T, D = q.shape
    K, S, E = v.shape[1:]
    queries = q.data.reshape(B, K, H // K, T, D)
    keys, values = k.data[:, :, None], v.data[:, :, None]  # (B, K, 1, S, D or E)
    bias = mask_bias(mask, (B, H, T, S), K, q.dtype)
    out = empty((B, K, H // K, T, E), q.dtype)
    keep = needs_grad(q) or needs_grad(k) or needs_grad(v)
    scale = default_scale(D) if scale is None else scale
    saved = attention_forward(queries, keys, values, bias=bias, causal=causal, scale=scale, out=out, keep=keep)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        into = empty(queries.shape, g.dtype), empty(keys.shape, g.dtype), empty(values.shape, g.dtype)
        g = g.reshape(out.shape)
        attention_backward(
            g, queries, keys, values, bias=bias, causal=causal, scale=scale, out=out, saved=saved, into=into
        )
        dq, dk, dv = into
        return dq.reshape(B, H, T, D), dk[:, :, 0], dv[:, :, 0]

    return record("attention", out.reshape(B, H, T, E), (q, k, v), vjp)


def packed_attention(
    qkv: Tensor,
    num_heads: int,
    num_kv_heads: int,
    *,
    mask: Mask | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """Attend with queries, keys and values that lie in one array, as one product computes them.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, (H + 2 K) D)
        The heads of the queries, then of the keys, then of the values.
    num_heads : int
        H, a multiple of K.
    num_kv_heads : int
        K: each key and value head serves ``H / K`` consecutive query heads.
    mask : ndarray of bool, broadcasts to (B, H, T, T), optional
        True where a query may see a key. A query that may see none gives zeros.
    causal : bool, default True
        Whether a query sees keys up to its own position only.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (B, T, H D)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the mask is not boolean.
    """
    check_dtypes("packed_attention", qkv)
    H, K = num_heads, num_kv_heads
    if qkv.ndim != 3 or H % K or qkv.shape[2] % (H + 2 * K):
        raise shape_error(f"packed_attention with {H} heads and {K} key heads", f"(B, T, {H + 2 * K} D)", qkv.shape)
    B, T, width = qkv.shape
    q, k, v = split_heads(qkv.data, H, K)
    bias = mask_bias(mask, (B, H, T, T), K, qkv.dtype)
    merged = empty((B, T, H * q.shape[-1]), qkv.dtype)
    out = group_heads(merged, H, K)
    scale = default_scale(q.shape[-1]) if scale is None else scale
    saved = attention_forward(q, k, v, bias=bias, causal=causal, scale=scale, out=out, keep=needs_grad(qkv))

    def vjp(g: Array) -> tuple[Array]:
        grads = empty((B, T, width), g.dtype)
        g, into = group_heads(g, H, K), split_heads(grads, H, K)
        attention_backward(g, q, k, v, bias=bias, causal=causal, scale=scale, out=out, saved=saved, into=into)
        return (grads,)

    return record("attention", merged, (qkv,), vjp)


def default_scale(head_dim: int) -> float:
    """Return ``1 / sqrt(D)``, which keeps the variance of the scores near one."""
    return 1 / math.sqrt(head_dim)


def attend(q: Array, k: Array, v: Array, *, mask: Mask | None, causal: bool, scale: float) -> Array:
    """Attend without recording, as with keys and values from a cache.

    Parameters
    ----------
    q : ndarray, shape (B, K, H / K, T, D)
    k, v : ndarray, shape (B, K, 1, S, D)
    mask, causal, scale
        As in `scaled_dot_product_attention`.

    Returns
    -------
    ndarray, shape (B, T, H D)
    """
    B, K, G, T, D = q.shape
    bias = mask_bias(mask, (B, K * G, T, k.shape[3]), K, q.dtype)
    merged = empty((B, T, K * G * D), q.dtype)
    out = group_heads(merged, K * G, K)
    attention_forward(q, k, v, bias=bias, causal=causal, scale=scale, out=out, keep=False)
    return merged


def attention_weights(q: Array, k: Array, *, mask: Mask | None, causal: bool, scale: float) -> Array:
    """Return the attention weights of each query.

    Parameters
    ----------
    q : ndarray, shape (B, K, H / K, T, D)
    k : ndarray, shape (B, K, 1, S, D)
    mask, causal, scale
        As in `scaled_dot_product_attention`.

    Returns
    -------
    ndarray, shape (B, H, T, S)
        A row sums to one, or to zero if the query may see no key.
    """
    B, K, G, T, _ = q.shape
    S = k.shape[3]
    bias = mask_bias(mask, (B, K * G, T, S), K, q.dtype)
    p = attention_probabilities(q, k, bias=bias, causal=causal, scale=scale)
    return p.reshape(B, K * G, T, S)


def group_heads(x: Array, num_heads: int, num_kv_heads: int) -> Array:
    """Return a view of shape (B, K, H / K, T, D) of heads that lie side by side in (B, T, H D)."""
    B, T, width = x.shape
    return x.reshape(B, T, num_kv_heads, num_heads // num_kv_heads, width // num_heads).transpose(0, 2, 3, 1, 4)


def split_heads(qkv: Array, num_heads: int, num_kv_heads: int) -> tuple[Array, Array, Array]:
    """Return views of the queries, keys and values in a packed array.

    Parameters
    ----------
    qkv : ndarray, shape (B, T, (H + 2 K) D)
    num_heads, num_kv_heads : int
        H and K.

    Returns
    -------
    q : ndarray, shape (B, K, H / K, T, D)
    k, v : ndarray, shape (B, K, 1, T, D)
    """
    H, K = num_heads, num_kv_heads
    D = qkv.shape[2] // (H + 2 * K)
    return (
        group_heads(qkv[:, :, : H * D], H, K),
        group_heads(qkv[:, :, H * D : (H + K) * D], K, K),
        group_heads(qkv[:, :, (H + K) * D :], K, K),
    )


def mask_bias(mask: Mask | None, shape: tuple[int, ...], num_kv_heads: int, dtype: np.dtype[Any]) -> Array | None:
    """Return the summand of a mask for the scores: zero where a query may see a key, otherwise minus infinity.

    Parameters
    ----------
    mask : ndarray of bool, broadcasts to `shape`, or None
    shape : tuple of int
        (B, H, T, S).
    num_kv_heads : int
        K.
    dtype : dtype

    Returns
    -------
    ndarray, shape (B, K, H / K, T, S), or None
        Not larger in memory than the mask.

    Raises
    ------
    TypeError
        If the mask is not boolean.
    ValueError
        If it does not broadcast.
    """
    if mask is None:
        return None
    B, H, T, S = shape
    if mask.dtype != np.bool_:
        raise TypeError(f"mask ({mask.dtype}) must be boolean, True where a query may see a key")
    try:
        bias = np.broadcast_to(np.where(mask, 0, -np.inf).astype(dtype), shape)
    except ValueError:
        raise ValueError(f"mask of shape {mask.shape} must broadcast to (B, H, T, S) = {shape}") from None
    return bias.reshape(B, num_kv_heads, H // num_kv_heads, T, S)
