"""Shape operations: reshape, reorder axes, reverse, shift, copy and convert, without arithmetic.

Most return views: the result shares its memory with the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

import numpy as np
from numpy.typing import DTypeLike

from axone.autograd.arrays import Axis
from axone.autograd.ops.dtypes import values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor


def reshape(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """Return the elements in another shape.

    Parameters
    ----------
    x : Tensor or array_like
    shape : int or sequence of int
        The new lengths; one may be -1, which is inferred from the others.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the number of elements is not the same.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.reshape([1.0, 2.0, 3.0, 4.0], (2, -1))
    Tensor([[1., 2.],
            [3., 4.]])
    """
    data = values(x)
    before = data.shape
    try:
        moved = data.reshape(shape)
    except ValueError:
        raise ValueError(f"reshape needs a shape of {data.size} elements for shape {before}, got {shape}") from None
    return record("reshape", moved, (x,), lambda g: (g.reshape(before),))


def ravel(x: Operand) -> Tensor:
    """Return the elements in one axis.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape (size,)

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.ravel([[1.0, 2.0], [3.0, 4.0]])
    Tensor([1., 2., 3., 4.])
    """
    data = values(x)
    before = data.shape
    return record("ravel", data.reshape(-1), (x,), lambda g: (g.reshape(before),))


def copy(x: Operand) -> Tensor:
    """Return a copy of the elements; gradients flow through it.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> x = ag.Tensor([1.0, 2.0])
    >>> y = ag.copy(x)
    >>> y[0] = 5.0
    >>> x
    Tensor([1., 2.])
    """
    return record("copy", values(x).copy(), (x,), lambda g: (g,))


def transpose(x: Operand, axes: Sequence[int] | None = None, **unknown: Never) -> Tensor:
    """Permute the axes.

    Parameters
    ----------
    x : Tensor or array_like
    axes : sequence of int, optional
        The axes of `x` in their new order; reversed by default.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.transpose([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 3.],
            [2., 4.]])
    """
    if unknown:
        raise unknown_argument("transpose", unknown)
    data = values(x)
    if axes is None:
        return record("transpose", data.T, (x,), lambda g: (g.T,))
    try:
        moved = data.transpose(axes)
    except ValueError:
        two = f": swapaxes{tuple(axes)} swaps two axes" if len(axes) == 2 < data.ndim else ""
        raise ValueError(
            f"axes {tuple(axes)} of transpose must name each axis of shape {data.shape} once{two}"
        ) from None
    back = np.argsort([axis % data.ndim for axis in axes])
    return record("transpose", moved, (x,), lambda g: (g.transpose(back),))


def swapaxes(x: Operand, axis1: int, axis2: int, **unknown: Never) -> Tensor:
    """Exchange two axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis1, axis2 : int

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.swapaxes([[1.0, 2.0], [3.0, 4.0]], 0, 1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    if unknown:
        raise unknown_argument("swapaxes", unknown)
    return record("swapaxes", values(x).swapaxes(axis1, axis2), (x,), lambda g: (g.swapaxes(axis1, axis2),))


def expand_dims(x: Operand, axis: int | tuple[int, ...], **unknown: Never) -> Tensor:
    """Insert new axes of length one.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int
        The positions of the new axes in the result.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.expand_dims([1.0, 2.0], 1)
    Tensor([[1.],
            [2.]])
    """
    if unknown:
        raise unknown_argument("expand_dims", unknown)
    data = values(x)
    return record("expand_dims", np.expand_dims(data, axis), (x,), lambda g: (g.reshape(data.shape),))


def squeeze(x: Operand, axis: Axis = None, **unknown: Never) -> Tensor:
    """Remove axes of length one.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to remove; all of length one by default.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If an axis is longer than one.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.squeeze([[1.0, 2.0]])
    Tensor([1., 2.])
    """
    if unknown:
        raise unknown_argument("squeeze", unknown)
    data = values(x)
    try:
        squeezed = data.squeeze(axis)
    except ValueError:
        raise ValueError(f"axis {axis} of shape {data.shape} must have length one for squeeze") from None
    return record("squeeze", squeezed, (x,), lambda g: (g.reshape(data.shape),))


def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """Broadcast an array to a shape.

    Parameters
    ----------
    x : Tensor or array_like
    shape : int or sequence of int
        A shape to which the shape of `x` broadcasts.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If the shape of `x` does not broadcast to it.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.broadcast_to([1.0, 2.0], (2, 2))
    Tensor([[1., 2.],
            [1., 2.]])
    """
    data = values(x)
    target = (shape,) if isinstance(shape, int) else tuple(shape)
    try:
        stretched = np.broadcast_to(data, target)
    except ValueError:
        raise ValueError(f"shape {data.shape} does not broadcast to {target}") from None
    return record("broadcast_to", stretched, (x,), lambda g: (g,))  # the engine sums it back


def flip(x: Operand, axis: Axis = None, **unknown: Never) -> Tensor:
    """Reverse the order of the elements along axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to reverse; all by default.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.flip([1.0, 2.0, 3.0])
    Tensor([3., 2., 1.])
    """
    if unknown:
        raise unknown_argument("flip", unknown)
    return record("flip", np.flip(values(x), axis), (x,), lambda g: (np.flip(g, axis),))


def roll(x: Operand, shift: int | tuple[int, ...], axis: Axis = None, **unknown: Never) -> Tensor:
    """Shift the elements along axes cyclically: the last ones become the first.

    Parameters
    ----------
    x : Tensor or array_like
    shift : int or tuple of int
        The number of positions.
    axis : int or tuple of int, optional
        The axes to shift along; by default the flattened elements are shifted.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.roll([1.0, 2.0, 3.0], 1)
    Tensor([3., 1., 2.])
    """
    if unknown:
        raise unknown_argument("roll", unknown)
    back = -shift if isinstance(shift, int) else tuple(-s for s in shift)
    return record("roll", np.roll(values(x), shift, axis), (x,), lambda g: (np.roll(g, back, axis),))


def astype(x: Operand, dtype: DTypeLike) -> Tensor:
    """Convert the elements to another dtype; the gradient is converted back.

    Parameters
    ----------
    x : Tensor or array_like
    dtype : dtype

    Returns
    -------
    Tensor, shape of `x`

    Raises
    ------
    TypeError
        If `x` requires gradients and the dtype is not a floating-point one.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.astype([1.0, 2.0], float)
    Tensor([1., 2.], dtype=float64)
    """
    data = values(x)
    before, after = data.dtype, np.dtype(dtype)
    if after.kind != "f" and isinstance(x, Tensor) and x.requires_grad:
        raise TypeError(f"astype({after}) would drop the gradients of a Tensor: call detach() first")
    return record("astype", data.astype(after), (x,), lambda g: (g.astype(before),))
