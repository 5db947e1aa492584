"""Softmax, its logarithm and logsumexp, without overflow.

Subtracting the largest score from all scores changes no probability, and keeps every exponential at most 1. A row in
which a mask has set every score to minus infinity has probabilities of zero.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Never

import numpy as np

from axone.autograd.arrays import SMALL, Array, Axis, ones
from axone.autograd.ops.axes import add_reduce, dropped, maximum_reduce, refuse
from axone.autograd.ops.dtypes import values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor

_EMPTY = -math.inf  # the largest score of a fully masked row


@functools.lru_cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Return the lowest and the highest number of a dtype, and a positive one that is negligible beside 1."""
    limits = np.finfo(dtype)
    return limits.min, limits.max, limits.tiny


def _largest(name: str, data: Array, axis: Axis) -> Array:
    """Return the largest score m, at least the lowest finite number: minus infinity minus itself would be NaN."""
    lowest, _, _ = _limits(data.dtype)
    try:
        top: Array = maximum_reduce(data, axis, None, None, True, lowest)
    except TypeError:
        refuse(name, axis)
        raise
    return top


def _exponentials(data: Array, top: Array) -> Array:
    """Return exp(x - m)."""
    e: Array = np.asarray(data - top)  # NumPy returns a number for 0-d arrays
    np.exp(e, e)
    return e


def _positive_sum(e: Array, axis: Axis) -> Array:
    """Return the sum of the exponentials: at least 1; for a fully masked row tiny instead of zero."""
    _, _, tiny = _limits(e.dtype)
    total: Array = add_reduce(e, axis, None, None, True, tiny)
    return total


def _row_sums(a: Array, b: Array, axis: Axis) -> Array:
    """Return the sums of a * b over some axes, kept with length one; over the last axis by BLAS."""
    if axis == -1 and a.ndim:
        return np.asarray(np.vecdot(a, b))[..., None]
    return np.asarray(add_reduce(a * b, axis, keepdims=True))


def logsumexp(x: Operand, axis: Axis = -1, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return ``log(sum(exp(x)))`` over axes, without overflow.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        The axes to reduce; None for all.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.logsumexp([1000.0, 1000.0])
    Tensor(1000.6932)
    """
    if unknown:
        raise unknown_argument("logsumexp", unknown)
    data = _floating(x)
    top = _largest("logsumexp", data, axis)
    infinite = top == math.inf
    if infinite.any():  # infinities share the gradient equally, as equal elements do in max
        _, highest, _ = _limits(data.dtype)
        e = np.where(infinite, data == math.inf, _exponentials(data, np.minimum(top, highest)))
    else:
        e = _exponentials(data, top)
    total = add_reduce(e, axis, keepdims=True)
    with np.errstate(divide="ignore"):  # a fully masked row gives minus infinity
        result = np.log(total) + top

    def vjp(g: Array) -> tuple[Array]:
        return (e * (g.reshape(total.shape) / np.maximum(total, 1)),)

    return record("logsumexp", result if keepdims else dropped(result, axis), (x,), vjp)


def softmax(x: Operand, axis: Axis = -1, **unknown: Never) -> Tensor:
    """Return the softmax over axes: each exponential divided by the sum of the exponentials.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        The axes over which probabilities sum to one; None for all.

    Returns
    -------
    Tensor, shape of `x`
        Sums to one over `axis`; all zero where every score is minus infinity.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.softmax([1.0, 2.0, 1002.0])
    Tensor([0., 0., 1.])
    """
    if unknown:
        raise unknown_argument("softmax", unknown)
    data = _floating(x)
    if data.ndim == 1 and axis == -1 and 0 < data.size <= SMALL and data.dtype.kind == "f":
        return _softmax_of_row(x, data)
    p = _exponentials(data, _largest("softmax", data, axis))
    p /= _positive_sum(p, axis)

    def vjp(g: Array) -> tuple[Array]:
        dx = g - _row_sums(g, p, axis)
        dx *= p
        return (dx,)

    return record("softmax", p, (x,), vjp)


def _softmax_of_row(x: Operand, data: Array) -> Tensor:
    """Return the softmax of one short row, in half the time of the general case."""
    top = data[data.argmax()]
    if top == _EMPTY:
        p = np.zeros_like(data)
    else:
        p = data - np.asarray(top)  # a 0-d array is faster than a number
        np.exp(p, p)
        p /= np.asarray(p.dot(ones(data.size, data.dtype)))

    def vjp(g: Array) -> tuple[Array]:
        dx: Array = g - np.asarray(g.dot(p))
        dx *= p
        return (dx,)

    return record("softmax", p, (x,), vjp)


def log_softmax(x: Operand, axis: Axis = -1, **unknown: Never) -> Tensor:
    """Return the logarithm of `softmax`, accurate also for tiny probabilities.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        The axes over which probabilities sum to one; None for all.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.log_softmax([0.0, -1000.0])
    Tensor([    0., -1000.])
    """
    if unknown:
        raise unknown_argument("log_softmax", unknown)
    data = _floating(x)
    top = _largest("log_softmax", data, axis)
    p = _exponentials(data, top)
    total = _positive_sum(p, axis)

    def vjp(g: Array) -> tuple[Array]:
        dx = p * (add_reduce(g, axis, keepdims=True) / -total)  # g - softmax sum(g)
        dx += g
        return (dx,)

    return record("log_softmax", data - top - np.log(total), (x,), vjp)


def _floating(x: Operand) -> Array:
    """Return the scores as a floating-point array."""
    data = values(x)
    return data if data.dtype.kind in "fc" else data.astype(np.float64)
