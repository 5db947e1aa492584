"""Operations that move elements without computing: other shapes, other orders of axes, turned and shifted.

Most return views: the result shares its elements with the input.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from axone.autograd.arrays import Axis
from axone.autograd.ops.operands import values
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor


def reshape(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """Return the elements in another shape.

    Parameters
    ----------
    x : Tensor or array_like
    shape : int or sequence of int
        The new lengths; one may be -1 and follows from the others.

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
        raise ValueError(f"reshape needs a shape of {data.size} elements for shape {before}, and got {shape}") from None
    return record("reshape", moved, (x,), lambda g: (g.reshape(before),))


def transpose(x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """Return the axes in another order.

    Parameters
    ----------
    x : Tensor or array_like
    axes : sequence of int, optional
        Which axis of `x` comes first, second, ...; reversed by default.

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
    data = values(x)
    if axes is None:
        return record("transpose", data.T, (x,), lambda g: (g.T,))
    try:
        moved = data.transpose(axes)
    except ValueError:
        raise ValueError(f"transpose needs each axis of shape {data.shape} once, and got {tuple(axes)}") from None
    back = np.argsort([axis % data.ndim for axis in axes])
    return record("transpose", moved, (x,), lambda g: (g.transpose(back),))


def swapaxes(x: Operand, axis1: int, axis2: int) -> Tensor:
    """Return two axes exchanged.

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
    return record("swapaxes", values(x).swapaxes(axis1, axis2), (x,), lambda g: (g.swapaxes(axis1, axis2),))


def expand_dims(x: Operand, axis: int | tuple[int, ...]) -> Tensor:
    """Return new axes of length one inserted.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int
        Where the new axes stand in the result.

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
    data = values(x)
    return record("expand_dims", np.expand_dims(data, axis), (x,), lambda g: (g.reshape(data.shape),))


def squeeze(x: Operand, axis: Axis = None) -> Tensor:
    """Return axes of length one removed.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        Which; all of them by default.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If one of `axis` is longer.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.squeeze([[1.0, 2.0]])
    Tensor([1., 2.])
    """
    data = values(x)
    try:
        squeezed = data.squeeze(axis)
    except ValueError:
        raise ValueError(f"squeeze removes axes of length one, and got axis {axis} for shape {data.shape}") from None
    return record("squeeze", squeezed, (x,), lambda g: (g.reshape(data.shape),))


def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """Return the elements repeated until they fill a shape.

    Parameters
    ----------
    x : Tensor or array_like
    shape : int or sequence of int
        A shape to which that of `x` broadcasts.

    Returns
    -------
    Tensor, shape `shape`

    Raises
    ------
    ValueError
        If it does not.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.broadcast_to([1.0, 2.0], (2, 2))
    Tensor([[1., 2.],
            [1., 2.]])
    """
    data = values(x)
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    try:
        spread = np.broadcast_to(data, wanted)
    except ValueError:
        raise ValueError(f"broadcast_to cannot stretch shape {data.shape} to {wanted}") from None
    return record("broadcast_to", spread, (x,), lambda g: (g,))  # the engine sums it back


def flip(x: Operand, axis: Axis = None) -> Tensor:
    """Return the elements in reverse order.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        Along which axes; all by default.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.flip([1.0, 2.0, 3.0])
    Tensor([3., 2., 1.])
    """
    return record("flip", np.flip(values(x), axis), (x,), lambda g: (np.flip(g, axis),))


def roll(x: Operand, shift: int | tuple[int, ...], axis: Axis = None) -> Tensor:
    """Return the elements shifted along an axis; what leaves at the end comes in at the beginning.

    Parameters
    ----------
    x : Tensor or array_like
    shift : int or tuple of int
        By how many places.
    axis : int or tuple of int, optional
        Along which axes; by default over all elements, flattened.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.roll([1.0, 2.0, 3.0], 1)
    Tensor([3., 1., 2.])
    """
    back = -shift if isinstance(shift, int) else tuple(-s for s in shift)
    return record("roll", np.roll(values(x), shift, axis), (x,), lambda g: (np.roll(g, back, axis),))


def astype(x: Operand, dtype: DTypeLike) -> Tensor:
    """Return the elements converted to another type; the gradient is converted back.

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
        If `x` requires gradients and the type is not a floating-point one.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.astype([1.0, 2.0], float)
    Tensor([1., 2.], dtype=float64)
    """
    data = values(x)
    before, after = data.dtype, np.dtype(dtype)
    if after.kind != "f" and isinstance(x, Tensor) and x.requires_grad:
        raise TypeError(f"no gradient flows through {after}, and astype got a Tensor that requires one: detach() it")
    return record("astype", data.astype(after), (x,), lambda g: (g.astype(before),))
