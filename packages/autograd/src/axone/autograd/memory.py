"""Memory pool for large arrays: the arrays of a training step reuse the memory of arrays without references.

Every step allocates the same large arrays and drops them. Most allocators return large blocks to the system and fetch
new ones page by page, which can take as long as the arithmetic. Inside `reused_memory`, `empty` keeps its blocks, and
reuses a block when CPython's reference count shows that no array and no view uses it. Nothing is copied, and nothing has
to be released: an array that lives on keeps its block for itself, also after `reused_memory` has ended.

Small arrays are left to NumPy, whose allocator keeps them anyway; so are all arrays on a Python that does not count
references.

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
FORGOTTEN = 1 << 12  # requests for other sizes, after which the blocks of a size are freed

_ndarray = np.ndarray
_references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)


class _Pool:
    """The blocks of one thread, in lists by size."""

    def __init__(self) -> None:
        self.holders = 0
        self._blocks: dict[int, list[NDArray[np.uint8]]] = {}
        self._last_request: dict[int, int] = {}  # by size
        self._requests = 0

    def array(self, shape: Shape, dtype: np.dtype[Any], size: int) -> Array:
        """Return an array on a block that no other array uses."""
        step = 1 << (size - 1).bit_length() - 3  # four sizes up to each power of two, so that similar arrays share
        size = -(-size // step) * step
        self._requests += 1
        self._last_request[size] = self._requests
        blocks = self._blocks.setdefault(size, [])
        for block in blocks:
            if _references(block) == _UNUSED:
                array = _ndarray(shape, dtype, block)
                if _references(block) == _UNUSED + 1:  # no finalizer or signal handler took it in between
                    return array
        self._free_old_sizes()
        blocks.append(_ndarray(size, np.uint8))
        return _ndarray(shape, dtype, blocks[-1])

    def clear(self) -> None:
        """Drop the references to all blocks: living arrays keep theirs."""
        self._blocks.clear()
        self._last_request.clear()

    def _free_old_sizes(self) -> None:
        """Drop the blocks of sizes that were not requested for a long time, before another block is allocated."""
        for size, last in list(self._last_request.items()):
            if self._requests - last > FORGOTTEN:
                del self._last_request[size], self._blocks[size]


class _Local(threading.local):
    pool: _Pool | None = None


_local = _Local()


def _unused() -> int:
    """Return how many references `_Pool.array` counts to a block that no array uses; -1 if the count is not exact."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return -1  # without the lock, references of other threads may be counted late
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
    """Reuse memory in `empty`, in this thread; the end of the outermost such context frees the memory.

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
            if _local.pool is pool:  # another thread may close the generator
                _local.pool = None


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return an uninitialized array, as ``numpy.empty`` does: inside `reused_memory`, a large one in reused memory.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
        Of numbers.

    Returns
    -------
    ndarray, shape `shape`
        In C order, owned by the caller.
    """
    pool = _local.pool
    if pool is not None and pool.holders:
        size = math.prod(shape) * dtype.itemsize
        if size >= SMALLEST:
            return pool.array(shape, dtype, size)
    return _ndarray(shape, dtype)


def empty_like(array: Array) -> Array:
    """Return an uninitialized array with the shape and dtype of another, as `empty` does.

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
