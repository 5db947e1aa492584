"""Memory that is used again: the large arrays of a training step take the place of those that nobody refers to any longer.

Every step makes the same large arrays and drops them. Most allocators hand large blocks back to the system and fetch new
ones page by page, which can take as long as the arithmetic. Inside `reused_memory`, `empty` keeps the blocks it makes, and
hands a block out again once CPython's count of references says that no array and no view stands on it. Nothing is
copied, and nothing has to be given back: an array that lives on keeps its block for itself, also after the end.

Small arrays stay with NumPy, whose allocator keeps them anyway, and so do all where references are not counted.

References
----------
.. [1] Python, "sys.getrefcount", https://docs.python.org/3/library/sys.html#sys.getrefcount
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array, Shape

SMALLEST = 1 << 16  # bytes: smaller arrays are left to NumPy
FORGOTTEN = 1 << 12  # requests of other sizes, after which the blocks of a size go

_ndarray = np.ndarray
_references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)


class _Pool:
    """The blocks of one thread, in lists by size."""

    def __init__(self) -> None:
        self.holders = 0
        self._blocks: dict[int, list[NDArray[np.uint8]]] = {}
        self._asked: dict[int, int] = {}  # which was the last request of each size
        self._requests = 0

    def array(self, shape: Shape, dtype: np.dtype[Any], size: int) -> Array:
        """Return an array on a block that nothing else stands on."""
        step = 1 << (size - 1).bit_length() - 3  # four sizes up to each power of two, so that similar arrays share
        size = -(-size // step) * step
        self._requests += 1
        self._asked[size] = self._requests
        blocks = self._blocks.setdefault(size, [])
        for block in blocks:
            if _references(block) == _UNUSED:
                array = _ndarray(shape, dtype, block)
                if _references(block) == _UNUSED + 1:  # no finalizer or signal handler has taken it in between
                    return array
        self._forget()
        blocks.append(_ndarray(size, np.uint8))
        return _ndarray(shape, dtype, blocks[-1])

    def clear(self) -> None:
        """Let go of all blocks: those of living arrays stay with these."""
        self._blocks.clear()
        self._asked.clear()

    def _forget(self) -> None:
        """Let go of the sizes that were not asked for in a long time, before another block is made."""
        for size, last in list(self._asked.items()):
            if self._requests - last > FORGOTTEN:
                del self._asked[size], self._blocks[size]


class _Local(threading.local):
    pool: _Pool | None = None


_local = _Local()


def _unused() -> int:
    """Return how many references `_Pool.array` counts to a block that nothing stands on; -1 if they do not tell."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return -1  # other threads' references may then be counted late
    for block in [np.empty(8, np.uint8)]:
        alone = _references(block)
        array = _ndarray((2, 2), np.uint16, block)
        views = array[1:].T, array.reshape(4)
        del array
        return alone if _references(block) == alone + len(views) else -1
    return -1


_UNUSED = _unused()


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Let `empty` use memory again in this thread, until all who asked for it have ended; then it is given back.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd.extend import empty, reused_memory
    >>> with reused_memory():
    ...     first = empty((512, 512), np.dtype(np.float32))
    ...     place = first.ctypes.data
    ...     del first
    ...     second = empty((256, 1024), np.dtype(np.float32))
    ...     second.ctypes.data == place
    True
    """
    if _UNUSED < 0:
        yield
        return
    pool = _local.pool = _local.pool or _Pool()
    pool.holders += 1
    try:
        yield
    finally:
        pool.holders -= 1
        if not pool.holders:
            pool.clear()
            if _local.pool is pool:  # a generator may be ended in another thread
                _local.pool = None


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return an array that holds anything, as ``numpy.empty`` does: inside `reused_memory`, if it is large, in used memory.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
        Of numbers.

    Returns
    -------
    ndarray, shape `shape`
        In C order. The caller's own, as any other array.
    """
    pool = _local.pool
    if pool is not None and pool.holders:
        size = math.prod(shape) * dtype.itemsize
        if size >= SMALLEST:
            return pool.array(shape, dtype, size)
    return _ndarray(shape, dtype)


def empty_like(array: Array) -> Array:
    """Return what `empty` does, with the shape and dtype of an array.

    Parameters
    ----------
    array : ndarray

    Returns
    -------
    ndarray, shape of `array`
        In C order.

    Examples
    --------
    The result of any ufunc can be written into it:

    >>> import numpy as np
    >>> from axone.autograd.extend import empty_like
    >>> x = np.array([4.0, 9.0])
    >>> np.sqrt(x, out=empty_like(x))
    array([2., 3.])
    """
    return empty(array.shape, array.dtype)
