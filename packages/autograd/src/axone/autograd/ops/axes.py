"""Axes of a reduction: which they are, how many elements they hold, what shape they leave."""

import math
from typing import Any

import numpy as np

from axone.autograd.arrays import Array, Axis, Shape

# What `numpy.sum` and its kin call, without their overhead. Typed Any, for NumPy's stubs want to know `keepdims`.
add_reduce: Any = np.add.reduce
maximum_reduce: Any = np.maximum.reduce
minimum_reduce: Any = np.minimum.reduce


def refuse(name: str, axis: object, *, several: bool = True) -> None:
    """Raise a `TypeError` that says what an axis is, if this is none: after NumPy has refused something.

    Parameters
    ----------
    name : str
        The operation's.
    axis : object
        What it was given.
    several : bool, default True
        Whether it may be a tuple.
    """
    for one in axis if isinstance(axis, tuple) and several else (axis,):
        if one is not None and (isinstance(one, bool) or not hasattr(one, "__index__")):
            what = "a whole number or a tuple of them" if several else "a whole number"
            raise TypeError(f"the axis of {name} must be {what}, and is {axis!r}") from None


def axes_of(axis: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Return the axes counted from the first; none for a 0-d array, whose axis NumPy lets be 0 or -1."""
    if ndim == 0 and axis in {0, -1}:
        return ()
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def count_of(shape: Shape, axis: Axis) -> int:
    """Return how many elements are reduced to one."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


def kept_shape(shape: Shape, axis: Axis) -> Shape:
    """Return the shape with every reduced axis kept at length one."""
    if axis is None:
        return (1,) * len(shape)
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def dropped(kept: Array, axis: Axis) -> Array:
    """Return an array without the axes that were kept at length one."""
    return kept.reshape(()) if axis is None else kept.squeeze(axis)
