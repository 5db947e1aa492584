"""Axes of a reduction: their checks, the number of elements that they hold, and the shape that remains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from axone.autograd.arrays import Array, Axis, Shape

# The ufunc methods that `numpy.sum` and the like call, without their overhead. Typed Any, because NumPy's stubs require
# `keepdims` to be a literal.
add_reduce: Any = np.add.reduce
multiply_reduce: Any = np.multiply.reduce
maximum_reduce: Any = np.maximum.reduce
minimum_reduce: Any = np.minimum.reduce


def refuse(name: str, axis: object, *, several: bool = True) -> None:
    """Raise a `TypeError` if an axis is not an integer: called after NumPy has raised one that does not say so.

    Parameters
    ----------
    name : str
        The operation's name.
    axis : object
        The axis that was given.
    several : bool, default True
        Whether it may be a tuple.
    """
    for one in axis if isinstance(axis, tuple) and several else (axis,):
        if one is not None and (isinstance(one, bool) or not hasattr(one, "__index__")):
            what = "an integer or a tuple of integers" if several else "an integer"
            raise TypeError(f"axis ({axis!r}) of {name} must be {what}") from None


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return axes counted from the first: all for None, and none for axis 0 or -1 of a 0-d array, as in NumPy."""
    if axis is None:
        return tuple(range(ndim))
    if ndim == 0 and axis in {0, -1}:
        return ()
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def count_of(shape: Shape, axis: Axis) -> int:
    """Return how many elements are reduced to one."""
    return math.prod(shape) if axis is None else math.prod(shape[i] for i in axes_of(axis, len(shape)))


def kept_shape(shape: Shape, axis: Axis) -> Shape:
    """Return the shape after a reduction with ``keepdims=True``: every reduced axis has length one."""
    if axis is None:
        return (1,) * len(shape)
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def dropped(kept: Array, axis: Axis) -> Array:
    """Return an array without the reduced axes, which were kept with length one."""
    return kept.reshape(()) if axis is None else kept.squeeze(axis)
