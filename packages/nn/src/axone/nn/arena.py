"""Arena: one aligned array that holds all parameters of a module.

NumPy asks for large pages from 4 MiB on, so that one large array costs fewer page faults and TLB misses than many small
ones. Parameters that begin on a cache line are read in whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn import init

Allocate: TypeAlias = Callable[[int, np.dtype[Any]], Array]
"""A function that returns a new array of one axis, of a given length and dtype."""

CACHE_LINE = 64
"""Bytes that the processor reads at once."""


class Arena:
    """One aligned array, from which arrays are taken one after the other.

    Parameters
    ----------
    shapes : iterable of tuple of int
        The shapes of all arrays that will be taken: their sum is the arena's size.
    dtype : dtype
    align : int, default 64
        Bytes: each array begins at a multiple of it. 1 leaves no gaps. The arena itself begins with a cache line.
    allocate : callable, default numpy.empty
        From a length and a dtype to a new array, such as one in shared memory.

    Attributes
    ----------
    data : ndarray, shape (N,)
        The whole arena.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn.extend import Arena
    >>> arena = Arena([(2, 3), (3,)], np.float32)
    >>> matrix, vector = arena.take((2, 3)), arena.take((3,))
    >>> arena.data.shape  # each takes a cache line of 16 numbers
    (32,)
    >>> vector.ctypes.data - matrix.ctypes.data
    64
    """

    def __init__(
        self,
        shapes: Iterable[tuple[int, ...]],
        dtype: DTypeLike,
        *,
        align: int = CACHE_LINE,
        allocate: Allocate = np.empty,
    ) -> None:
        dtype = np.dtype(dtype)
        self._line = max(align // dtype.itemsize, 1)
        self._used = 0
        size = sum(self._padded(shape) for shape in shapes)
        start = max(align, CACHE_LINE)
        memory = allocate(size + start // dtype.itemsize, dtype)
        first = -memory.ctypes.data % start // dtype.itemsize
        self.data: Array = memory[first : first + size]

    def take(self, shape: tuple[int, ...]) -> Array:
        """Return the next array of the arena, a view of `data`, uninitialized.

        Parameters
        ----------
        shape : tuple of int

        Returns
        -------
        ndarray

        Raises
        ------
        ValueError
            If the arena has no room for it.
        """
        first, size = self._used, math.prod(shape)
        end = first + self._padded(shape)
        if end > self.data.size:
            raise ValueError(
                f"an array of shape {shape} does not fit into the arena, which has {self.data.size} elements and "
                f"{self.data.size - first} left: name its shape when the arena is made"
            )
        self._used = end
        self.data[first + size : end] = 0
        return self.data[first : first + size].reshape(shape)

    def _padded(self, shape: tuple[int, ...]) -> int:
        return -(-math.prod(shape) // self._line) * self._line


def flatten(
    parameters: Iterable[Tensor],
    *,
    dtype: DTypeLike | None = None,
    align: int = CACHE_LINE,
    allocate: Allocate = np.empty,
) -> Array:
    """Move parameters into one aligned array, in their order, and return that array.

    Parameters built under `axone.nn.init.skip` get memory, but no values. Inside `skip` nothing is allocated. Gradients
    stay as they are.

    Parameters
    ----------
    parameters : iterable of Tensor
        Such as ``module.parameters()``.
    dtype : dtype, optional
        The dtype to convert to, by default their own.
    align : int, default 64
        Bytes: each parameter begins at a multiple of it. 1 leaves no gaps.
    allocate : callable, default numpy.empty
        From a length and a dtype to a new array, such as one in shared memory.

    Returns
    -------
    ndarray, shape (N,)
        The parameters one after the other, with zeros in the gaps.

    Raises
    ------
    TypeError
        If the parameters have several dtypes and none is given.

    Examples
    --------
    >>> from axone.nn import Linear
    >>> from axone.nn.extend import flatten
    >>> layer = Linear(16, 2)
    >>> flat = flatten(layer.parameters())
    >>> flat[:] = 1
    >>> layer.bias.data
    array([1., 1.], dtype=float32)
    """
    parameters = list(parameters)
    if dtype is None:
        dtypes = dict.fromkeys(parameter.dtype for parameter in parameters)
        if len(dtypes) > 1:
            raise TypeError(
                f"parameters of dtypes {', '.join(map(str, dtypes))} cannot share one array: "
                "convert the module with astype"
            )
        dtype = next(iter(dtypes), np.dtype(np.float32))
    shapes = [parameter.shape for parameter in parameters]
    if init.is_skipping():
        for parameter in parameters:
            parameter.data = init.meta(parameter.shape, dtype)
        return init.meta((sum(map(math.prod, shapes)),), dtype)
    arena = Arena(shapes, dtype, align=align, allocate=allocate)
    for parameter in parameters:
        place = arena.take(parameter.shape)
        if not init.is_meta(parameter.data):
            place[...] = parameter.data
        parameter.data = place
    return arena.data
