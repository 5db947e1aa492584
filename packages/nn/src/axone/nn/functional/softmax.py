"""Softmax along the last axis, shifted only if the exponentials would leave the range of the dtype.

Softmax is invariant to a shift of a row. The usual shift by the row's largest score prevents overflow; finding and
subtracting it costs half as much as the exponentials. Most scores need no shift: the sums of the rows then show that
the exponentials stayed in range. Only if they did not, the exponentials are computed again with the shift.
"""

from typing import Never

import numpy as np

from axone import autograd
from axone.autograd import Tensor
from axone.autograd.extend import Array, empty_like, record
from axone.nn.functional.matmul import ones
from axone.nn.functional.validation import check_dtypes
from axone.nn.pytorch import unknown_argument

_SMALLEST, _LARGEST = 1e-20, 1e30  # bounds of a row's sum within which float32 loses no digit
_SAFE = 60.0  # scores up to here need no shift: neither their exponentials nor the sum of those leaves float32


def softmax(x: Tensor, axis: int = -1, **unknown: Never) -> Tensor:
    """Return the exponential of each score, divided by the sum over an axis.

    The function is that of `axone.autograd.softmax`; along the last axis it is computed up to twice as fast. With the
    gradient g and the result p::

        dx = p (g - rowsum(g p))

    Parameters
    ----------
    x : Tensor, shape (..., S)
    axis : int, default -1

    Returns
    -------
    Tensor, shape (..., S)
        A row adds up to one, unless all its scores are minus infinity: then it is zero.
    """
    if unknown:
        raise unknown_argument("softmax", unknown)
    check_dtypes("softmax", x)
    if x.ndim == 0 or axis not in {-1, x.ndim - 1}:
        return autograd.softmax(x, axis)
    p, _, _ = softmax_rows(x.data)

    def vjp(g: Array) -> tuple[Array]:
        dx = g - np.vecdot(g, p)[..., None]
        dx *= p
        return (dx,)

    return record("softmax", p, (x,), vjp)


def softmax_rows(scores: Array) -> tuple[Array, Array, Array | float]:
    """Return the softmax of each row, with the sums of the exponentials and the shifts.

    Parameters
    ----------
    scores : ndarray, shape (..., S)

    Returns
    -------
    p : ndarray, shape (..., S)
    total : ndarray, shape (...)
        One where all scores are minus infinity.
    shift : ndarray, shape (...), or 0.0
    """
    p, total, shift = exp_rows(scores)
    total[total == 0] = 1
    p /= total[..., None]
    return p, total, shift


def exp_rows(scores: Array) -> tuple[Array, Array, Array | float]:
    """Return ``exp(scores - shift)``, its sums over the last axis, and the shift of each row.

    Parameters
    ----------
    scores : ndarray, shape (..., S)
        May hold minus infinity.

    Returns
    -------
    p : ndarray, shape (..., S)
    total : ndarray, shape (...)
        Zero where all scores are minus infinity, and only there.
    shift : ndarray, shape (...), or 0.0
    """
    row = ones(scores.shape[-1], scores.dtype)
    with np.errstate(over="ignore"):
        p = np.exp(scores, out=empty_like(scores))
    total = np.asarray(p @ row)
    every = total.reshape(-1)
    if not every.size or (np.minimum.reduce(every) > _SMALLEST and np.maximum.reduce(every) < _LARGEST):
        return p, total, 0.0
    shift = np.asarray(scores.max(axis=-1, initial=-np.inf))
    shift[~np.isfinite(shift)] = 0
    np.subtract(scores, shift[..., None], out=p)
    np.exp(p, out=p)
    return p, np.asarray(p @ row), shift


def exp_few_rows(scores: Array) -> None:
    """Exponentiate few scores in place, each row shifted by its largest score if any score could leave the range.

    For rows too few to repay `exp_rows`, which finds out from their sums whether a shift is needed. Here the extremes
    are looked at first, which takes a quarter of the time of the shift.

    Parameters
    ----------
    scores : ndarray, shape (..., S)
        May hold minus infinity, but no row of nothing else.
    """
    if scores.item(scores.argmax()) > _SAFE or scores.item(scores.argmin()) < -_SAFE:
        scores -= np.maximum.reduce(scores, -1, keepdims=True)
    np.exp(scores, scores)
