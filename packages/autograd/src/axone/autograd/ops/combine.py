"""Operations that join, split and pad arrays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Never

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array
from axone.autograd.deferred import Part, Scattered
from axone.autograd.ops.dtypes import adopt, many_operands, values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor, raw

_COPYING_MODES = ("edge", "reflect", "symmetric", "wrap")


def concatenate(arrays: Sequence[Operand], axis: int | None = 0, **unknown: Never) -> Tensor:
    """Join arrays along an existing axis.

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
        If the shapes do not fit, or `arrays` is empty.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.concatenate([[1.0, 2.0], ag.Tensor([3.0])])
    Tensor([1., 2., 3.])
    """
    if unknown:
        raise unknown_argument("concatenate", unknown)
    return _join("concatenate", arrays, many_operands("concatenate", tuple(arrays)), axis)


def hstack(arrays: Sequence[Operand]) -> Tensor:
    """Join arrays along the second axis; 1-d arrays along their only one.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        Of one shape except along that axis.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the shapes do not fit, or `arrays` is empty.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.hstack([[[1.0], [2.0]], [[3.0], [4.0]]])
    Tensor([[1., 3.],
            [2., 4.]])
    """
    parts = [np.atleast_1d(part) for part in many_operands("hstack", tuple(arrays))]
    return _join("hstack", arrays, parts, 1 if parts and parts[0].ndim > 1 else 0)


def vstack(arrays: Sequence[Operand]) -> Tensor:
    """Join arrays along the first axis; 1-d arrays become rows.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        Of one shape except along that axis.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the shapes do not fit, or `arrays` is empty.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.vstack([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 2.],
            [3., 4.]])
    """
    return _join("vstack", arrays, [np.atleast_2d(part) for part in many_operands("vstack", tuple(arrays))], 0)


def _join(name: str, arrays: Sequence[Operand], parts: Sequence[Array], axis: int | None) -> Tensor:
    """Return parts joined along an axis; the gradient of each part gets the shape of its array."""
    try:
        data = np.concatenate(parts, axis)
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(
            f"{name} needs shapes that are equal except along axis {axis}, got "
            f"{', '.join(str(part.shape) for part in parts) or 'none'}"
        ) from None
    shapes = [np.shape(raw(array)) for array in arrays]
    along = 0 if axis is None else axis % data.ndim
    lengths = [part.size if axis is None else part.shape[along] for part in parts]
    ends = np.cumsum(lengths)

    def vjp(g: Array) -> list[Array]:
        before = (slice(None),) * along
        return [
            g[(*before, slice(end - length, end))].reshape(shape) for length, end, shape in zip(lengths, ends, shapes)
        ]

    return record(name, data, tuple(arrays), vjp)


def stack(arrays: Sequence[Operand], axis: int = 0, **unknown: Never) -> Tensor:
    """Join arrays along a new axis.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        Of one shape.
    axis : int, default 0
        The position of the new axis in the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the shapes differ, or `arrays` is empty.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    if unknown:
        raise unknown_argument("stack", unknown)
    parts = many_operands("stack", tuple(arrays))
    if len({part.shape for part in parts}) != 1:
        raise ValueError(
            f"stack needs arrays of one shape, got {', '.join(str(part.shape) for part in parts) or 'none'}"
        )
    return record("stack", np.stack(parts, axis), tuple(arrays), lambda g: list(np.moveaxis(g, axis, 0)))


def split(x: Operand, indices_or_sections: int | Sequence[int], axis: int = 0, **unknown: Never) -> list[Tensor]:
    """Split an array into parts along an axis.

    Parameters
    ----------
    x : Tensor or array_like
    indices_or_sections : int or sequence of int
        The number of parts of equal length, or the indices at which to split.
    axis : int, default 0

    Returns
    -------
    list of Tensor

    Raises
    ------
    ValueError
        If the axis has no parts of equal length, or does not exist.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.split([1.0, 2.0, 3.0, 4.0], 2)
    [Tensor([1., 2.]), Tensor([3., 4.])]
    """
    if unknown:
        raise unknown_argument("split", unknown)
    data = values(x)
    axis = np.lib.array_utils.normalize_axis_index(axis, data.ndim)
    length = data.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or length % indices_or_sections:
            raise ValueError(
                f"split cannot divide axis {axis} of shape {data.shape} into {indices_or_sections} equal parts"
            )
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
    """Add elements around an array.

    Parameters
    ----------
    x : Tensor or array_like
    pad_width : int, (before, after), or one such pair for each axis
        The number of elements to add.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        The elements to add, as in NumPy: a constant, or copies of elements of `x`.
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
            f"pad_width ({pad_width}) must be a number, (before, after), or one such pair for each axis of shape {shape}"
        ) from None
    if mode == "constant":
        inner = tuple(slice(before, before + size) for (before, _), size in zip(widths, shape))
        constant = adopt("pad", constant_values, data)
        return record("pad", np.pad(data, pad_width, constant_values=constant), (x,), lambda g: (g[inner],))
    if mode not in _COPYING_MODES:
        raise ValueError(f"mode ({mode!r}) of pad must be 'constant' or one of {_COPYING_MODES}")
    positions = np.pad(np.arange(data.size).reshape(shape), pad_width, mode)  # type: ignore[call-overload]  # checked
    return record("pad", data.reshape(-1)[positions], (x,), lambda g: (Scattered(positions, g),))
