"""Operations that put arrays together, take them apart and pad them."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array
from axone.autograd.deferred import Part, Scattered
from axone.autograd.ops.operands import adopt, many_operands, values
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor

_COPYING_MODES = ("edge", "reflect", "symmetric", "wrap")


def concatenate(arrays: Sequence[Operand], axis: int | None = 0) -> Tensor:
    """Return arrays joined along an axis that they have.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        Of one shape except along `axis`.
    axis : int or None, default 0
        None joins them flattened.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is nothing to join.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.concatenate([[1.0, 2.0], ag.Tensor([3.0])])
    Tensor([1., 2., 3.])
    """
    parts = many_operands("concatenate", tuple(arrays))
    shapes = [part.shape for part in parts]
    try:
        data = np.concatenate(parts, axis)
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(
            f"concatenate needs shapes that are equal except along axis {axis}, and these are "
            f"{', '.join(map(str, shapes)) or 'none'}"
        ) from None
    along = 0 if axis is None else axis % data.ndim
    lengths = [part.size if axis is None else part.shape[along] for part in parts]
    ends = np.cumsum(lengths)

    def vjp(g: Array) -> list[Array]:
        before = (slice(None),) * along
        return [
            g[(*before, slice(end - length, end))].reshape(shape) for length, end, shape in zip(lengths, ends, shapes)
        ]

    return record("concatenate", data, tuple(arrays), vjp)


def stack(arrays: Sequence[Operand], axis: int = 0) -> Tensor:
    """Return arrays joined along a new axis.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        Of one shape.
    axis : int, default 0
        Where the new axis stands in the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the shapes differ, or there is nothing to join.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    parts = many_operands("stack", tuple(arrays))
    if len({part.shape for part in parts}) != 1:
        raise ValueError(
            f"stack needs arrays of one shape, and these are {', '.join(str(part.shape) for part in parts) or 'none'}"
        )
    return record("stack", np.stack(parts, axis), tuple(arrays), lambda g: list(np.moveaxis(g, axis, 0)))


def split(x: Operand, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Return the parts of an array along an axis.

    Parameters
    ----------
    x : Tensor or array_like
    indices_or_sections : int or sequence of int
        How many parts of equal length, or where to cut.
    axis : int, default 0

    Returns
    -------
    list of Tensor

    Raises
    ------
    ValueError
        If there are no parts of equal length, or the array has no such axis.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.split([1.0, 2.0, 3.0, 4.0], 2)
    [Tensor([1., 2.]), Tensor([3., 4.])]
    """
    data = values(x)
    axis = np.lib.array_utils.normalize_axis_index(axis, data.ndim)
    length = data.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or length % indices_or_sections:
            raise ValueError(f"split cannot cut shape {data.shape} into {indices_or_sections} along axis {axis}")
        step = length // indices_or_sections
        cuts = [step * i for i in range(1, indices_or_sections)]
    else:
        cuts = list(indices_or_sections)
    before = (slice(None),) * axis
    return [_part(x, data, (*before, slice(start, stop))) for start, stop in itertools.pairwise([None, *cuts, None])]


def _part(x: Operand, data: Array, index: tuple[slice, ...]) -> Tensor:
    """Return one part of a split."""
    return record("split", data[index], (x,), lambda g: (Part(index, g),))


def pad(
    x: Operand,
    pad_width: int | Sequence[int] | Sequence[Sequence[int]],
    mode: str = "constant",
    *,
    constant_values: ArrayLike = 0,
) -> Tensor:
    """Return an array with more elements around it.

    Parameters
    ----------
    x : Tensor or array_like
    pad_width : int, (before, after), or one such pair for each axis
        How many elements to add.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What to add: a constant, or which of the elements, as in NumPy.
    constant_values : float, default 0
        The constant.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the mode is another, or `pad_width` does not fit the axes.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.pad([1.0, 2.0], (1, 2))
    Tensor([0., 1., 2., 0., 0.])
    """
    data = values(x)
    shape = data.shape
    try:
        widths = np.broadcast_to(np.asarray(pad_width, dtype=np.intp), (data.ndim, 2))
    except ValueError:
        raise ValueError(
            f"pad needs a number, (before, after), or one such pair for each axis of shape {shape}, and got {pad_width}"
        ) from None
    if mode == "constant":
        inner = tuple(slice(before, before + size) for (before, _), size in zip(widths, shape))
        constant = adopt("pad", constant_values, data)
        return record("pad", np.pad(data, pad_width, constant_values=constant), (x,), lambda g: (g[inner],))
    if mode not in _COPYING_MODES:
        raise ValueError(f"the mode of pad must be 'constant' or one of {_COPYING_MODES}, and is {mode!r}")
    positions = np.pad(np.arange(data.size).reshape(shape), pad_width, mode)  # type: ignore[call-overload]  # checked
    return record("pad", data.reshape(-1)[positions], (x,), lambda g: (Scattered(positions, g),))
