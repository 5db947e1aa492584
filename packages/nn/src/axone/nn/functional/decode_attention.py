"""Attention from a single position of each sequence, without a tape: the arithmetic of decoding."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from axone.autograd.extend import Array
from axone.nn.functional.attention import Mask
from axone.nn.functional.softmax import exp_few_rows

PackedDecodeAttention: TypeAlias = Callable[[Array, Array, Array], Array]
"""From queries (K, G, D), keys (S, K D) and values (S, K D + ones) to (K, G, D)."""


def decode_attention(q: Array, keys: Array, values: Array, mask: Mask | None) -> Array:
    """Return the attended values of one position of each sequence.

    Parameters
    ----------
    q : ndarray, shape (..., K, G, D)
        Scaled queries: G query heads for each key head.
    keys, values : ndarray, shape (..., K, S, D)
    mask : ndarray of bool, shape (B, S), or None
        True where a sequence may see a position.

    Returns
    -------
    ndarray, shape (..., K, G, D)
    """
    p = np.matmul(q, keys.swapaxes(-1, -2))  # (..., K, G, S)
    if mask is not None:
        np.copyto(p, -np.inf, where=~mask[:, None, None])
    exp_few_rows(p)
    out: Array = np.matmul(p, values)
    out /= np.add.reduce(p, -1, keepdims=True)
    return out


def packed_decode_attention(K: int, G: int, D: int, dtype: np.dtype[Any], *, ones: int) -> PackedDecodeAttention:
    """Return a function that attends from one position with one product for all heads, of a row-major cache.

    Each query is a row of zeros but for the columns of its head. Most of what is multiplied is zero or not needed, but
    while that is little (see `RowCache.pays`), two products take half of the time of two products for each head.

    Parameters
    ----------
    K, G, D : int
        Key heads, query heads for each key head, and width of a head.
    dtype : dtype
    ones : int
        The columns of ones after the values.
    """
    spread, mixed = np.zeros((K * G, K * D), dtype), np.empty((K * G, K * D + ones), dtype)
    q_places = np.einsum("kgkd->kgd", spread.reshape(K, G, K, D))  # a view
    out_places = np.einsum("kgkd->kgd", mixed[:, : K * D].reshape(K, G, K, D))  # a view
    totals = mixed[:, K * D].reshape(K, G, 1)

    def attend(q: Array, keys: Array, values: Array) -> Array:
        q_places[...] = q
        p = spread.dot(keys.T)  # (H, S)
        exp_few_rows(p)
        p.dot(values, mixed)
        out: Array = out_places / totals
        return out

    return attend
