"""SequenceCache: a key-value cache whose sequences come, go and move on, each at its own pace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array
from axone.llm.processes import shared_zeros
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
