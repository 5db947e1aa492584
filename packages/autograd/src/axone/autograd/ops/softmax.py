"""Softmax and its logarithm: scores turned into probabilities, without overflow.

Subtracting the largest score from all of them changes no probability, and keeps every exponential at most 1. A row of
nothing but minus infinity, as a mask may leave it, has no largest score: its probabilities are zero.
"""

import numpy as np

from axone.autograd.arrays import Array, Axis
from axone.autograd.ops.axes import dropped, reduced
from axone.autograd.ops.operands import values
from axone.autograd.tensor import Operand, Tensor, record


def _exponentials(data: Array, axis: Axis) -> tuple[Array, Array, Array]:
    """Return exp(x - m) with the largest score m, their sums, and m itself; axes kept."""
    top = np.maximum(
        reduced(np.maximum, data, axis, keepdims=True), np.finfo(data.dtype).min
    )  # minus infinity less itself would be NaN
    e = np.asarray(data - top)
    np.exp(e, out=e)
    return e, reduced(np.add, e, axis, keepdims=True), top


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
    """
    e, total, top = _exponentials(_floating(x), axis)
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
    """
    p, total, _ = _exponentials(_floating(x), axis)
    p /= np.maximum(total, 1)  # the largest score alone gives 1, so only an empty row is below

    def vjp(g: Array) -> tuple[Array]:
        dx = g * p  # p (g - sum(g p))
        dx -= p * reduced(np.add, dx, axis, keepdims=True)
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
    """
    data = _floating(x)
    p, total, top = _exponentials(data, axis)
    total = np.maximum(total, 1)

    def vjp(g: Array) -> tuple[Array]:
        dx = p * (reduced(np.add, g, axis, keepdims=True) / -total)  # g - softmax sum(g)
        dx += g
        return (dx,)

    return record("log_softmax", data - top - np.log(total), (x,), vjp)


def _floating(x: Operand) -> Array:
    """Return the scores as floating-point numbers."""
    data = values(x)
    return data if data.dtype.kind in "fc" else data.astype(np.float64)
