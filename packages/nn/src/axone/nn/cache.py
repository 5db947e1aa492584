"""KV caches: keys and values of the positions that an attention layer has read.

`KVCache` stores a row for each head and position. `RowCache`, for a batch of one short sequence, stores all heads of a
position side by side, so that two matrix products attend with all heads.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference", https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd.extend import Array
from axone.nn.arena import Allocate

# Positions, of all sequences together, that are allocated at first; more are allocated when they are needed. A page of a
# large array has 2 MiB: 16 sequences of SmolLM2 would touch 1.5 GiB for a few positions each, in 0.4 to 3.5 s.
_FIRST_CAPACITY = 2048


def _first_capacity(batch: int) -> int:
    """Return the positions of each sequence that are allocated at first."""
    return -(-_FIRST_CAPACITY // max(batch, 1))


class KVCache:
    """Keys and values of the positions that an attention layer has read, so that a new position costs one row.

    Memory is allocated for at most 2,048 positions of all sequences together at first, and grows as positions are appended.

    Parameters
    ----------
    batch : int
        B.
    num_kv_heads : int
        K.
    max_length : int
        The most positions that fit.
    head_dim : int
        D.
    dtype : dtype, default float32

    Attributes
    ----------
    length : int
        The number of positions held. Lowering it forgets the later ones.
    max_length : int
        The most positions that fit.
    version : int
        Counts reallocations: a `view` sees what is appended to the cache only while this number stays the same.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor, no_grad
    >>> from axone.nn import KVCache, MultiHeadAttention
    >>> attention = MultiHeadAttention(8, 2)
    >>> x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 8), dtype=np.float32))
    >>> cache = KVCache(1, 2, 16, 4)
    >>> with no_grad():
    ...     steps = [attention(x[:, [t]], cache=cache) for t in range(3)]
    >>> cache.length, bool(np.allclose(steps[2].data, attention(x)[:, [2]].data, atol=1e-6))
    (3, True)
    """

    def __init__(
        self, batch: int, num_kv_heads: int, max_length: int, head_dim: int, *, dtype: DTypeLike = np.float32
    ) -> None:
        shape = batch, num_kv_heads, min(max_length, _first_capacity(batch)), head_dim
        self._keys: Array = np.empty(shape, dtype)
        self._values: Array = np.empty(shape, dtype)
        self._after_write: Callable[[], object] | None = None
        self.max_length = max_length
        self.length = 0
        self.version = 0

    @property
    def batch(self) -> int:
        """The number of sequences."""
        return int(self._keys.shape[0])

    @property
    def capacity(self) -> int:
        """The number of positions for which memory is allocated."""
        return int(self._keys.shape[2])

    def append(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Add positions and return all that are held: views, not copies.

        Parameters
        ----------
        keys, values : ndarray, shape (B, K, T, D)

        Returns
        -------
        keys, values : ndarray, shape (B, K, length, D)

        Raises
        ------
        ValueError
            If there is no room, or the shapes do not fit.
        """
        B, K, T, D = keys.shape
        start, end = self.length, self.length + T
        if end > self._keys.shape[2]:
            self.reserve(end)
        shape = self._keys.shape
        if (shape[0], shape[1], shape[3]) != (B, K, D):
            raise ValueError(f"keys of shape {keys.shape} do not fit into a cache of shape {shape}")
        self._keys[:, :, start:end] = keys
        self._values[:, :, start:end] = values
        self.length = end
        if self._after_write is not None:
            self._after_write()
        return self._keys[:, :, :end], self._values[:, :, :end]

    def reserve(self, length: int) -> None:
        """Allocate memory for a number of positions in all, at least twice as much as before if more is needed.

        Parameters
        ----------
        length : int

        Raises
        ------
        ValueError
            If it exceeds `max_length`.
        """
        capacity = self._grown(length)
        if capacity > self.capacity:
            self._reallocate(np.empty, capacity)

    def move(self, allocate: Allocate, length: int = 0) -> None:
        """Move keys and values into other memory, such as memory that forked processes share.

        Parameters
        ----------
        allocate : callable
            From a number of elements and a dtype to a new array of one axis.
        length : int, default 0
            Allocate as `reserve` does for so many positions.

        Raises
        ------
        ValueError
            If `length` exceeds `max_length`.
        """
        self._reallocate(allocate, self._grown(length))

    def view(
        self,
        *,
        rows: slice = slice(None),
        heads: slice = slice(None),
        start: int = 0,
        after_write: Callable[[], object] | None = None,
    ) -> KVCache:
        """Return a cache of some sequences and heads that reads and writes this cache's memory, with its own length.

        Parameters
        ----------
        rows : slice, optional
            Of the B sequences, by default all.
        heads : slice, optional
            Of the K key and value heads, by default all.
        start : int, default 0
            The view continues after so many positions more than are held.
        after_write : callable, optional
            `append` calls it between writing and returning: a barrier, where several threads fill one cache.

        Returns
        -------
        KVCache
            Its `max_length` is the present `capacity`: call `reserve` first.
        """
        view = KVCache.__new__(KVCache)
        view._keys, view._values = self._keys[rows, heads], self._values[rows, heads]
        view._after_write = after_write
        view.max_length = self.capacity
        view.length, view.version = self.length + start, self.version
        return view

    def drop_first(self, count: int) -> None:
        """Forget the first positions: all later ones move to the front by `count`."""
        kept = self.length - count
        for array in (self._keys, self._values):
            array[:, :, :kept] = array[:, :, count : self.length].copy()
        self.length = kept

    def select(self, rows: NDArray[np.intp]) -> None:
        """Keep only some sequences of the batch, in the order given.

        Fewer ones that move to the front, if at all, stay in the same memory.

        Parameters
        ----------
        rows : ndarray of int, shape (N,)
        """
        count = len(rows)
        if count < self.batch and (rows >= np.arange(count)).all():
            for to, row in enumerate(rows.tolist()):
                if to != row:
                    for array in (self._keys, self._values):
                        array[to, :, : self.length] = array[row, :, : self.length]
            self._keys, self._values = self._keys[:count], self._values[:count]
            return
        capacity = self.capacity
        if count > self.batch:
            capacity = min(capacity, max(self.length, _first_capacity(count)))

        def selected(array: Array) -> Array:
            _, K, _, D = array.shape
            new: Array = np.empty((count, K, capacity, D), array.dtype)
            new[:, :, : self.length] = array[rows, :, : self.length]  # not the rest, which no one has written to
            return new

        self._replace(selected(self._keys), selected(self._values))

    def overwrite_last(self, rows: NDArray[np.intp], other: KVCache) -> None:
        """Overwrite the last positions of some sequences with all positions of another cache.

        Parameters
        ----------
        rows : ndarray of int, shape (N,)
        other : KVCache
            Of N sequences.
        """
        first, last = self.length - other.length, self.length
        self._keys[rows, :, first:last] = other._keys[:, :, : other.length]
        self._values[rows, :, first:last] = other._values[:, :, : other.length]

    def _grown(self, length: int) -> int:
        """Return the capacity after `reserve`."""
        if length > self.max_length:
            raise ValueError(
                f"the cache has room for {self.max_length} positions, and not for {length}: give it a larger max_length"
            )
        return self.capacity if length <= self.capacity else min(max(length, 2 * self.capacity), self.max_length)

    def _reallocate(self, allocate: Allocate, capacity: int) -> None:
        def moved(array: Array) -> Array:
            B, K, _, D = array.shape
            new = allocate(B * K * capacity * D, array.dtype).reshape(B, K, capacity, D)
            new[:, :, : self.length] = array[:, :, : self.length]
            return new

        self._replace(moved(self._keys), moved(self._values))

    def _replace(self, keys: Array, values: Array) -> None:
        self._keys, self._values = keys, values
        self.version += 1


class RowCache(KVCache):
    """A cache of one sequence in which the keys of all heads are side by side, a row for each position; values likewise.

    Parameters
    ----------
    num_kv_heads, max_length, head_dim, dtype
        As in `KVCache`. All positions are allocated at once.
    """

    ONES = 16  # columns of ones after the values, a cache line: the product with the values also sums the weights

    def __init__(self, num_kv_heads: int, max_length: int, head_dim: int, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(1, num_kv_heads, 0, head_dim, dtype=dtype)
        self.max_length = max_length
        self._width = width = num_kv_heads * head_dim
        keys, values = np.zeros((max_length, width), dtype), np.ones((max_length, width + self.ONES), dtype)
        self._keys, self._values = (
            rows[:, :width].reshape(1, max_length, num_kv_heads, head_dim).swapaxes(1, 2)  # a view
            for rows in (keys, values)
        )
        self._rows: tuple[Array, Array] | None = keys, values

    @staticmethod
    def pays(num_heads: int, num_kv_heads: int, length: int, head_dim: int) -> bool:
        """Return whether one product for all heads is faster than one for each: up to 256 positions of 4 heads of 32."""
        return num_heads * num_kv_heads * length * head_dim <= 1 << 17

    @property
    def is_row_major(self) -> bool:
        """Whether the heads are still side by side: no longer once the cache was moved or sequences were selected."""
        return self._rows is not None

    def append_row(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Add a position and return all that are held: views, not copies.

        Parameters
        ----------
        keys, values : ndarray, shape (K D,)

        Returns
        -------
        keys, values : ndarray, shape (length, K D) and (length, K D + ONES)
            Ones follow the values.

        Raises
        ------
        ValueError
            If there is no room, or the cache is no longer row-major.
        """
        if self._rows is None:
            raise ValueError("this cache is no longer row-major, because it was moved: use append")
        at = self.length
        if at == self.max_length:
            self.reserve(at + 1)
        key_rows, value_rows = self._rows
        key_rows[at] = keys
        value_rows[at, : self._width] = values
        self.length = at + 1
        return key_rows[: at + 1], value_rows[: at + 1]

    def _replace(self, keys: Array, values: Array) -> None:
        super()._replace(keys, values)
        self._rows = None
