"""Key-value caches for generation: whose sequences come, go and move on, or of one sequence that is read quickest."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd.extend import Array
from axone.llm.runtime.processes import shared_zeros
from axone.nn import KVCache


class SequenceCache(KVCache):
    """A `KVCache` that can forget its first positions, drop sequences, and have the end of some read again.

    Attributes
    ----------
    shared : bool
        Whether processes that were forked since `share` see what is written.
    """

    shared = False

    def share(self) -> None:
        """Move into memory that stays the same in processes that are forked from now on."""
        if not self.shared:
            self._keys, self._values = self._moved(self._keys), self._moved(self._values)
            self.shared = True

    def _moved(self, array: Array) -> Array:
        place: Array = shared_zeros(array.size, array.dtype).reshape(array.shape)
        place[:, :, : self.length] = array[:, :, : self.length]
        return place

    def forget_first(self, count: int) -> None:
        """Move all positions to the front by `count`; those before are lost."""
        kept = self.length - count
        for array in (self._keys, self._values):
            array[:, :, :kept] = array[:, :, count : self.length].copy()
        self.length = kept

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Keep only some of the sequences, in the order given."""
        self._keys, self._values = self._keys[rows], self._values[rows]
        self.shared = False

    def replace_last(self, rows: NDArray[np.intp], other: SequenceCache) -> None:
        """Put all positions of another cache in place of the last ones of some sequences.

        Parameters
        ----------
        rows : ndarray of int, shape (N,)
        other : SequenceCache
            Of N sequences.
        """
        first, last = self.length - other.length, self.length
        self._keys[rows, :, first:last] = other._keys[:, :, : other.length]
        self._values[rows, :, first:last] = other._values[:, :, : other.length]


class RowCache(SequenceCache):
    """A cache of one sequence in which the keys of all heads lie side by side, a row for each position; values too.

    Parameters
    ----------
    num_kv_heads, max_length, head_dim, dtype
        As in `KVCache`.
    """

    ONES = 16  # columns after the values: a cache line; the weights' sum comes with the product that they are for

    def __init__(self, num_kv_heads: int, max_length: int, head_dim: int, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(1, num_kv_heads, 0, head_dim, dtype=dtype)
        self._width = width = num_kv_heads * head_dim
        self._key_rows = np.zeros((max_length, width), dtype)
        self._value_rows = np.ones((max_length, width + self.ONES), dtype)
        self._keys, self._values = (
            rows[:, :width].reshape(1, max_length, num_kv_heads, head_dim).swapaxes(1, 2)  # a view
            for rows in (self._key_rows, self._value_rows)
        )
        self._own = self._keys

    @staticmethod
    def pays(num_heads: int, num_kv_heads: int, length: int, head_dim: int) -> bool:
        """Tell whether one product for all heads is quicker than one for each: up to 256 positions of 4 heads of 32."""
        return num_heads * num_kv_heads * length * head_dim <= 1 << 17

    @property
    def lies_in_rows(self) -> bool:
        """Whether it still does: in other memory, or with other sequences, it no longer does."""
        return self._keys is self._own

    def append_row(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Add a position and return all that are held: views, not copies.

        Parameters
        ----------
        keys, values : ndarray, shape (K D,)

        Returns
        -------
        keys, values : ndarray, shape (length, K D) and (length, K D + ONES)
            Ones stand after the values.

        Raises
        ------
        ValueError
            If there is no room.
        """
        at = self.length
        if at == len(self._key_rows):
            raise ValueError(f"the cache has room for {at} positions, and {at + 1} are needed")
        self._key_rows[at] = keys
        self._value_rows[at, : self._width] = values
        self.length = at + 1
        return self._key_rows[: at + 1], self._value_rows[: at + 1]
