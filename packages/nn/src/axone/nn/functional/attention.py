"""Scaled dot-product attention, forward and backward in place.

For each head, with D the head's width and M the causal mask::

    S = q k^T / sqrt(D)        P = softmax(S + M)        out = P v

    dv = P^T g        dP = g v^T        dS = P (dP - rowsum(P dP))        dq = dS k / sqrt(D)        dk = dS^T q / sqrt(D)

Queries, keys and values are strided views of one array, and their gradients are written into views of another: NumPy
hands such views to BLAS without a copy as long as the last axis is contiguous.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", https://arxiv.org/abs/2305.13245
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, record

Mask: TypeAlias = NDArray[np.bool_]

_SAFE_RANGE = 60.0  # exp(-60) is far above the smallest float32, so no row of such scores can vanish


def causal_mask(queries: int, keys: int) -> Mask:
    """Return which keys each query may see: those up to its own position, the last query being at the last key.

    Parameters
    ----------
    queries, keys : int

    Returns
    -------
    ndarray of bool, shape (queries, keys)
    """
    return np.tri(queries, keys, keys - queries, dtype=np.bool_)


def packed_attention(
    qkv: Tensor, num_heads: int, num_kv_heads: int, *, mask: Mask | None = None, causal: bool = True
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

    Returns
    -------
    Tensor, shape (B, T, H D)
    """
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    D = width // (H + 2 * K)
    q, k, v = split_heads(qkv.data.reshape(B, T, H + 2 * K, D), H, K)
    allowed = grouped_mask(mask, causal_mask(T, T) if causal and T > 1 else None, H, K)
    out, p = attention_forward(q, k, v, allowed)

    def vjp(g: Array) -> tuple[Array]:
        grads = np.empty((B, T, H + 2 * K, D), g.dtype)
        attention_backward(g.reshape(B, T, H, D), q, k, v, p, split_heads(grads, H, K))
        return (grads.reshape(B, T, width),)

    return record("attention", out.reshape(B, T, H * D), (qkv,), vjp)


def split_heads(qkv: Array, num_heads: int, num_kv_heads: int) -> tuple[Array, Array, Array]:
    """Return views of the queries, keys and values, the query heads grouped by the key head that serves them.

    Parameters
    ----------
    qkv : ndarray, shape (B, T, H + 2 K, D)
    num_heads, num_kv_heads : int
        H and K.

    Returns
    -------
    q : ndarray, shape (B, K, H / K, T, D)
    k, v : ndarray, shape (B, K, 1, T, D)
    """
    B, T, _, D = qkv.shape
    H, K = num_heads, num_kv_heads
    heads = qkv.transpose(0, 2, 1, 3)  # (B, H + 2K, T, D)
    q = qkv[:, :, :H].reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, D), a view
    return q, heads[:, H : H + K, None], heads[:, H + K :, None]


def attention_forward(q: Array, k: Array, v: Array, allowed: Mask | None) -> tuple[Array, Array]:
    """Return the attended values and the probabilities that the backward needs.

    Parameters
    ----------
    q : ndarray, shape (B, K, G, T, D)
    k, v : ndarray, shape (B, K, 1, S, D)
    allowed : ndarray of bool, broadcasts to (B, K, G, T, S), or None

    Returns
    -------
    out : ndarray, shape (B, T, K, G, D)
    p : ndarray, shape (B, K, G, T, S)
    """
    B, K, G, T, D = q.shape
    p = np.matmul(q, k.swapaxes(-1, -2))  # (B, K, G, T, S)
    p *= 1 / math.sqrt(D)
    masked_softmax(p, allowed)
    out = np.empty((B, T, K, G, D), q.dtype)
    np.matmul(p, v, out=out.transpose(0, 2, 3, 1, 4))
    return out, p


def masked_softmax(scores: Array, allowed: Mask | None) -> None:
    """Replace scores by their softmax over the last axis, where `allowed`; a row without any gives zeros.

    Softmax does not change when a row is shifted, so any shift that keeps ``exp`` in range will do. The largest score
    of all costs a tenth of finding each row's own, and it serves unless scores are far apart.
    """
    if scores.size == 0:
        return
    top = scores.max()
    if top - scores.min() < _SAFE_RANGE:
        scores -= top
    else:
        if allowed is not None:
            np.copyto(scores, -np.inf, where=~allowed)
        peak = scores.max(axis=-1, keepdims=True)
        peak[~np.isfinite(peak)] = 0
        scores -= peak
    np.exp(scores, out=scores)
    if allowed is not None:
        scores *= allowed
    total = scores @ np.ones(scores.shape[-1], scores.dtype)
    if allowed is not None:
        total[total == 0] = 1
    scores /= total[..., None]


def attention_backward(g: Array, q: Array, k: Array, v: Array, p: Array, into: tuple[Array, Array, Array]) -> None:
    """Write the gradients of queries, keys and values, overwriting the probabilities.

    Parameters
    ----------
    g : ndarray, shape (B, T, H, D)
        The gradient of the output.
    q, k, v, p : ndarray
        As in `attention_forward`.
    into : tuple of ndarray
        Where the three gradients go: of the shapes of `q`, `k` and `v`.
    """
    B, K, G, T, D = q.shape
    dq, dk, dv = into
    g = g.reshape(B, T, K, G, D).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, D), a view
    _sum_groups(p.swapaxes(-1, -2), g, dv)
    dp = np.matmul(g, v.swapaxes(-1, -2))  # (B, K, G, T, S)
    dp *= p
    total = dp @ np.ones(dp.shape[-1], dp.dtype)
    p *= total[..., None]
    dp -= p
    dp *= 1 / math.sqrt(D)
    np.matmul(dp, k, out=dq)
    _sum_groups(dp.swapaxes(-1, -2), q, dk)


def _sum_groups(a: Array, b: Array, out: Array) -> None:
    """Write the product ``a @ b``, summed over the query heads that share a key head."""
    if a.shape[2] == 1:
        np.matmul(a, b, out=out)
    else:
        out[...] = np.matmul(a, b).sum(axis=2, keepdims=True)


def grouped_mask(mask: Mask | None, causal: Mask | None, num_heads: int, num_kv_heads: int) -> Mask | None:
    """Return where both masks allow, of a shape that broadcasts to the scores ``(B, K, G, T, S)``."""
    if mask is None:
        return causal
    if mask.ndim == 4:  # (B, H or 1, T, S)
        split = (1, 1) if mask.shape[1] == 1 else (num_kv_heads, num_heads // num_kv_heads)
        mask = mask.reshape(mask.shape[0], *split, *mask.shape[2:])
    return mask if causal is None else mask & causal
