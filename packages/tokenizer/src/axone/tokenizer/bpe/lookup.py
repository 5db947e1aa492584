"""Looking up integers for whole arrays at once: a hash table of which each slot is one element of an array.

NumPy probes one slot for every key in a few calls; those whose slot holds another key go on to the next slot, and are few.

References
----------
.. [1] D. Knuth, "The Art of Computer Programming", volume 3, section 6.4, for hashing by multiplication and open addressing,
   https://www-cs-faculty.stanford.edu/~knuth/taocp.html
"""

import numpy as np

from axone.tokenizer.bpe.flat import IntArray

_EMPTY = -1


class IntegerTable:
    """Maps integers, at least 0, to integers.

    Parameters
    ----------
    default : int
        What `find` returns for keys that were not added, and for negative ones.
    """

    def __init__(self, default: int) -> None:
        self._default = default
        self._size = 0
        self._resize(4)

    def find(self, keys: IntArray) -> IntArray:
        """Return the value of each key, shape (N,)."""
        slots = self._slots(keys)
        held = self._keys[slots]
        values: IntArray = self._values[slots]  # of an empty slot: the default
        other = held != keys
        values[other] = self._default
        todo = (other & (held != _EMPTY)).nonzero()[0]
        slots = slots[todo]
        while len(todo):
            slots = (slots + 1) & self._last
            held = self._keys[slots]
            hit = held == keys[todo]
            values[todo[hit]] = self._values[slots[hit]]
            further = ~hit & (held != _EMPTY)
            todo, slots = todo[further], slots[further]
        return values

    def add(self, keys: IntArray, values: IntArray) -> None:
        """Add keys, all different and none added before, with their values."""
        self._size += len(keys)
        if 4 * self._size > len(self._keys):  # a full table makes long ways
            taken = self._keys != _EMPTY
            keys, values = np.append(self._keys[taken], keys), np.append(self._values[taken], values)
            self._resize((8 * self._size).bit_length())
        slots = self._slots(keys)
        while len(keys):
            free = self._keys[slots] == _EMPTY
            self._keys[slots[free]] = keys[free]  # of several that want one slot the last gets it
            placed = self._keys[slots] == keys
            self._values[slots[placed]] = values[placed]
            keys, values, slots = keys[~placed], values[~placed], (slots[~placed] + 1) & self._last

    def _resize(self, bits: int) -> None:
        self._last = (1 << bits) - 1
        self._down = np.uint64(64 - bits)
        self._keys = np.full(1 << bits, _EMPTY, dtype=np.int64)
        self._values = np.full(1 << bits, self._default, dtype=np.int64)

    def _slots(self, keys: IntArray) -> IntArray:
        return (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> self._down).view(np.int64)
