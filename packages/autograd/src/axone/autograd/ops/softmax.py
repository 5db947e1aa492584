"""Softmax and its logarithm: scores turned into probabilities, without overflow.

Subtracting the largest score from all of them changes no probability, and keeps every exponential at most 1. A row of
nothing but minus infinity, as a mask may leave it, has no largest score: its probabilities are zero.
"""

import functools
import math
from typing import Any

import numpy as np

from axone.autograd.arrays import SMALL, Array, Axis, ones
from axone.autograd.ops.axes import add_reduce, dropped, maximum_reduce, refuse
from axone.autograd.ops.operands import values
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor

_EMPTY = -math.inf  # the largest score of a row of which a mask has left nothing


@functools.lru_cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Return the lowest and the highest number of a dtype, and a positive one that is negligible beside 1."""
    limits = np.finfo(dtype)
    return limits.min, limits.max, limits.tiny


def _largest(name: str, data: Array, axis: Axis) -> Array:
    """Return the largest score m, at least the lowest finite number: minus infinity less itself would be NaN."""
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
    """Return the sum of the exponentials: at least 1, but for an empty row, where it is tiny and not zero."""
    _, _, tiny = _limits(e.dtype)
    total: Array = add_reduce(e, axis, None, None, True, tiny)
    return total


def _row_sums(a: Array, b: Array, axis: Axis) -> Array:
    """Return the sums of a b over some axes, so that they broadcast with a; along the last one by BLAS."""
    if axis == -1 and a.ndim:
        return np.asarray(np.vecdot(a, b))[..., None]
    return np.asarray(add_reduce(a * b, axis, keepdims=True))


def logsumexp(x: Operand, axis: Axis = -1, *, keepdims: bool = False) -> Tensor:
    """Return ``log(sum(exp(x)))`` over some axes, without overflow.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        None takes all axes.
    keepdims : bool, default False
        Whether these axes stay, with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.logsumexp([1000.0, 1000.0])
    Tensor(1000.6932)
    """
    data = _floating(x)
    top = _largest("logsumexp", data, axis)
    infinite = top == math.inf
    if infinite.any():  # infinities share the gradient of their row, as the largest elements share that of max
        _, highest, _ = _limits(data.dtype)
        e = np.where(infinite, data == math.inf, _exponentials(data, np.minimum(top, highest)))
    else:
        e = _exponentials(data, top)
    total = add_reduce(e, axis, keepdims=True)
    with np.errstate(divide="ignore"):  # the logarithm of an empty row is minus infinity
        result = np.log(total) + top

    def vjp(g: Array) -> tuple[Array]:
        return (e * (g.reshape(total.shape) / np.maximum(total, 1)),)

    return record("logsumexp", result if keepdims else dropped(result, axis), (x,), vjp)


def softmax(x: Operand, axis: Axis = -1) -> Tensor:
    """Return the exponential of each element, divided by their sum over some axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        None takes all axes.

    Returns
    -------
    Tensor, shape of `x`
        Sums to one over `axis`, unless all scores there are minus infinity: then all are zero.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.softmax([1.0, 2.0, 1002.0])
    Tensor([0., 0., 1.])
    """
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
    """Return the softmax of one short row, with NumPy's quickest calls: half the time of what suits any shape."""
    top = data[data.argmax()]
    if top == _EMPTY:
        p = np.zeros_like(data)
    else:
        p = data - np.asarray(top)  # a 0-d array is quicker than a number
        np.exp(p, p)
        p /= np.asarray(p.dot(ones(data.size, data.dtype)))

    def vjp(g: Array) -> tuple[Array]:
        dx: Array = g - np.asarray(g.dot(p))
        dx *= p
        return (dx,)

    return record("softmax", p, (x,), vjp)


def log_softmax(x: Operand, axis: Axis = -1) -> Tensor:
    """Return the logarithm of `softmax`, exact also for tiny probabilities.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, tuple of int or None, default -1
        None takes all axes.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.log_softmax([0.0, -1000.0])
    Tensor([    0., -1000.])
    """
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
    """Return the scores as floating-point numbers."""
    data = values(x)
    return data if data.dtype.kind in "fc" else data.astype(np.float64)
