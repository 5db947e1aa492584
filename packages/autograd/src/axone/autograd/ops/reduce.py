"""Reductions over axes: sum, prod, mean, var, std, max and min; and the cumulative sum."""

from __future__ import annotations

from typing import Any, Never

import numpy as np

from axone.autograd.arrays import Array, Axis, mask_gradient, stretch
from axone.autograd.ops.axes import (
    add_reduce,
    axes_of,
    count_of,
    dropped,
    kept_shape,
    maximum_reduce,
    minimum_reduce,
    multiply_reduce,
    refuse,
)
from axone.autograd.ops.dtypes import values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor


def sum(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the sum over axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to sum over; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    Tensor([4., 6.])
    """
    if unknown:
        raise unknown_argument("sum", unknown)
    data = values(x)
    shape = data.shape

    def vjp(g: Array) -> tuple[Array]:
        return (stretch(g if axis is None else g.reshape(kept_shape(shape, axis)), shape),)

    try:
        total = add_reduce(data, axis, None, None, keepdims)
    except TypeError:
        refuse("sum", axis)
        raise
    return record("sum", total, (x,), vjp)


def prod(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the product over axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to multiply over; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> x = ag.Tensor([2.0, 3.0, 0.0], requires_grad=True)
    >>> ag.prod(x).backward()
    >>> x.grad
    array([0., 0., 6.], dtype=float32)
    """
    if unknown:
        raise unknown_argument("prod", unknown)
    data = values(x)
    shape = data.shape

    def vjp(g: Array) -> tuple[Array]:
        return (_products_of_others(data, axis) * g.reshape(kept_shape(shape, axis)),)

    try:
        product = multiply_reduce(data, axis, None, None, keepdims)
    except TypeError:
        refuse("prod", axis)
        raise
    return record("prod", product, (x,), vjp)


def _products_of_others(data: Array, axis: Axis) -> Array:
    """Return for each element the product of the others, without a division, which would fail at zeros."""
    axes = axes_of(axis, data.ndim)
    order = [*(i for i in range(data.ndim) if i not in axes), *axes]
    moved = data.transpose(order)  # (..., reduced axes)
    flat = moved.reshape(*moved.shape[: data.ndim - len(axes)], count_of(data.shape, axis))  # (..., n)
    before, after = np.ones_like(flat), np.ones_like(flat)
    np.cumprod(flat[..., :-1], -1, out=before[..., 1:])
    np.cumprod(flat[..., :0:-1], -1, out=after[..., -2::-1])
    before *= after
    return before.reshape(moved.shape).transpose(np.argsort(order))


def mean(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the mean over axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to average over; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.mean([[1.0, 2.0], [3.0, 4.0]], axis=0)
    Tensor([2., 3.])
    """
    if unknown:
        raise unknown_argument("mean", unknown)
    data = values(x)
    shape = data.shape
    try:
        total, count = (
            add_reduce(data, axis, None, None, keepdims),
            data.size if axis is None else count_of(shape, axis),
        )
    except TypeError:
        refuse("mean", axis)
        raise

    def vjp(g: Array) -> tuple[Array]:
        g = np.asarray(g / count)
        return (stretch(g if axis is None else g.reshape(kept_shape(shape, axis)), shape),)

    return record("mean", total / count, (x,), vjp)


def var(x: Operand, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the variance over axes: the mean squared distance from the mean.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        All axes by default.
    ddof : int, default 0
        The sum of squares is divided by the number of elements minus `ddof`.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.var([1.0, 2.0, 3.0])
    Tensor(0.6666667)
    """
    if unknown:
        raise unknown_argument("var", unknown)
    centred, count, variance = _variance("var", values(x), axis, ddof)
    kept = variance.shape

    def vjp(g: Array) -> tuple[Array]:
        return (centred * (g.reshape(kept) * 2 / count),)

    return record("var", variance if keepdims else dropped(variance, axis), (x,), vjp)


def std(x: Operand, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the standard deviation over axes: the square root of the variance.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        All axes by default.
    ddof : int, default 0
        The sum of squares is divided by the number of elements minus `ddof`.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Notes
    -----
    Where all elements are equal, the gradient is defined as zero.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.std([1.0, 2.0, 3.0], ddof=1)
    Tensor(1.)
    """
    if unknown:
        raise unknown_argument("std", unknown)
    centred, count, variance = _variance("std", values(x), axis, ddof)
    deviation = np.sqrt(variance)

    def vjp(g: Array) -> tuple[Array]:
        spread = np.where(deviation == 0, 1, deviation)
        return (centred * mask_gradient(g.reshape(deviation.shape) / spread / count, deviation != 0),)

    return record("std", deviation if keepdims else dropped(deviation, axis), (x,), vjp)


def _variance(name: str, data: Array, axis: Axis, ddof: int) -> tuple[Array, int, Array]:
    """Return the distances from the mean, the divisor, and the variance with its axes kept."""
    try:
        count = count_of(data.shape, axis)
        centred: Array = data - add_reduce(data, axis, keepdims=True) / count
    except TypeError:
        refuse(name, axis)
        raise
    divisor = count - ddof if count > ddof else 0
    return centred, divisor, np.asarray(add_reduce(centred * centred, axis, keepdims=True) / divisor)


def max(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the largest element over axes; equal elements share the gradient equally.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> x = ag.Tensor([1.0, 3.0, 3.0], requires_grad=True)
    >>> ag.max(x).backward()
    >>> x.grad
    array([0. , 0.5, 0.5], dtype=float32)
    """
    if unknown:
        raise unknown_argument("max", unknown)
    return _extreme("max", maximum_reduce, x, axis, keepdims)


def min(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> Tensor:
    """Return the smallest element over axes; equal elements share the gradient equally.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.min([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([1., 3.])
    """
    if unknown:
        raise unknown_argument("min", unknown)
    return _extreme("min", minimum_reduce, x, axis, keepdims)


def _extreme(name: str, reduce: Any, x: Operand, axis: Axis, keepdims: bool) -> Tensor:
    data = values(x)
    try:
        extreme: Array | None = reduce(data, axis, keepdims=True) if count_of(data.shape, axis) else None
    except TypeError:
        refuse(name, axis)
        raise
    if extreme is None:
        raise ValueError(f"{name} needs at least one element, got shape {data.shape} over axis {axis}")

    def vjp(g: Array) -> tuple[Array]:
        equal = data == extreme
        count = np.maximum(add_reduce(equal, axis, g.dtype, None, True), 1)  # a NaN equals nothing: 0 elements
        return (mask_gradient(g.reshape(extreme.shape) / count, equal),)

    return record(name, extreme if keepdims else dropped(extreme, axis), (x,), vjp)


def cumsum(x: Operand, axis: int | None = None, **unknown: Never) -> Tensor:
    """Return the cumulative sum along an axis.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, optional
        By default over the flattened elements.

    Returns
    -------
    Tensor, shape of `x`, or (size,) without an axis

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.cumsum([1.0, 2.0, 3.0])
    Tensor([1., 3., 6.])
    """
    if unknown:
        raise unknown_argument("cumsum", unknown)
    data = values(x)
    shape, along = data.shape, 0 if axis is None else axis

    def vjp(g: Array) -> tuple[Array]:
        later = np.flip(np.cumsum(np.flip(g, along), along), along)  # the sums that include each element
        return (later.reshape(shape),)

    try:
        cumulative = np.cumsum(data, axis)
    except TypeError:
        refuse("cumsum", axis, several=False)
        raise
    return record("cumsum", cumulative, (x,), vjp)
