"""Indexing operations: indexing, take, repeat and triangles of a matrix."""

from __future__ import annotations

from typing import Any, Never

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array
from axone.autograd.deferred import Deferred, Part, Rows, Scattered
from axone.autograd.ops.dtypes import values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor, raw


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return ``x[index]``.

    Parameters
    ----------
    x : Tensor
    index : int, slice, None, Ellipsis, array of int or bool, or a tuple of these
        As in NumPy. An element that is selected several times receives the sum of the gradients.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexError
        If the index is out of bounds.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> x = ag.Tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, 1]
    Tensor([2., 4.])
    >>> x[x > 2]
    Tensor([3., 4.])
    """
    index = tuple(_part(part) for part in index) if isinstance(index, tuple) else _part(index)
    data = x.data
    shape = data.shape

    def vjp(g: Array) -> tuple[Deferred]:
        parts = index if isinstance(index, tuple) else (index,)
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if not arrays or (len(parts) == 1 and arrays[0].dtype == bool):  # selects no element twice
            return (Part(index, g),)
        if len(parts) == 1:
            ids = arrays[0].reshape(-1) % max(shape[0], 1)
            return (Rows(ids, g.reshape(ids.size, *shape[1:])),)
        positions = np.arange(data.size).reshape(shape)[index]
        return (Scattered(positions, g),)

    return record("getitem", data[index], (x,), vjp)


def _part(part: Any) -> Any:
    """Return one part of an index; convert Tensors and lists to arrays."""
    return np.asarray(part) if isinstance(part, list) and part else raw(part)


def take(x: Operand, indices: ArrayLike, axis: int | None = None, **unknown: Never) -> Tensor:
    """Select elements or slices by their indices along an axis.

    Parameters
    ----------
    x : Tensor or array_like
    indices : array_like of int
        Negative indices count from the end.
    axis : int, optional
        By default the indices refer to the flattened elements.

    Returns
    -------
    Tensor
        The axes of `indices` replace `axis`.

    Raises
    ------
    IndexError
        If an index is out of bounds.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.take([1.0, 2.0, 3.0], [2, 0, 2])
    Tensor([3., 1., 3.])
    """
    if unknown:
        raise unknown_argument("take", unknown)
    data = values(x)
    numbers = np.asarray(raw(indices), dtype=np.intp)
    taken = np.take(data, numbers, axis)

    def vjp(g: Array) -> tuple[Deferred]:
        if axis is None or data.ndim == 0:
            return (Scattered(numbers % max(data.size, 1), g),)
        along = axis % data.ndim
        if along == 0:
            return (Rows(numbers.reshape(-1) % max(len(data), 1), g.reshape(numbers.size, *data.shape[1:])),)
        positions = np.take(np.arange(data.size).reshape(data.shape), numbers, axis)
        return (Scattered(positions, g),)

    return record("take", taken, (x,), vjp)


def repeat(x: Operand, repeats: int | ArrayLike, axis: int | None = None, **unknown: Never) -> Tensor:
    """Repeat each element or slice along an axis.

    Parameters
    ----------
    x : Tensor or array_like
    repeats : int or array_like of int
        The number of repetitions, for all or for each.
    axis : int, optional
        By default the flattened elements are repeated.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `repeats` has neither one number nor as many as the axis.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.repeat([1.0, 2.0], 2)
    Tensor([1., 1., 2., 2.])
    """
    if unknown:
        raise unknown_argument("repeat", unknown)
    data = values(x)
    counts = np.asarray(raw(repeats), dtype=np.intp)

    def vjp(g: Array) -> tuple[Deferred]:
        return (Scattered(np.repeat(np.arange(data.size).reshape(data.shape), counts, axis), g),)

    return record("repeat", np.repeat(data, counts, axis), (x,), vjp)


def tril(x: Operand, k: int = 0) -> Tensor:
    """Return the lower triangle of each matrix, with zeros above.

    Parameters
    ----------
    x : Tensor or array_like, shape (..., n, m)
    k : int, default 0
        The last diagonal to keep; a positive one is above the main diagonal.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.tril([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 0.],
            [3., 4.]])
    """
    return record("tril", np.tril(values(x), k), (x,), lambda g: (np.tril(g, k),))


def triu(x: Operand, k: int = 0) -> Tensor:
    """Return the upper triangle of each matrix, with zeros below.

    Parameters
    ----------
    x : Tensor or array_like, shape (..., n, m)
    k : int, default 0
        The first diagonal to keep; a positive one is above the main diagonal.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.triu([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 2.],
            [0., 4.]])
    """
    return record("triu", np.triu(values(x), k), (x,), lambda g: (np.triu(g, k),))
