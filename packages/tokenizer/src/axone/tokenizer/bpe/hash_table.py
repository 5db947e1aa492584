"""Hash table of integers with vectorized lookup and insertion.

NumPy probes one slot per key in a few calls. Only the keys whose slot holds another key probe the next slot, and they
are few.

References
----------
.. [1] D. Knuth, "The Art of Computer Programming", volume 3, section 6.4, for multiplicative hashing and open
   addressing, https://www-cs-faculty.stanford.edu/~knuth/taocp.html
"""

import numpy as np

from axone.tokenizer.bpe.flat_words import IntArray

_EMPTY = -1


class IntegerHashTable:
    """Map from non-negative integers to integers.

    Parameters
    ----------
    default : int
        The value of keys that were not inserted, and of negative ones.
    """

    def __init__(self, default: int) -> None:
        self._default = default
        self._size = 0
        self._resize(4)

    def lookup(self, keys: IntArray) -> IntArray:
        """Return the value of each key, shape (N,)."""
        slots = self._slots(keys)
        held = self._keys[slots]
        values: IntArray = self._values[slots]  # an empty slot holds the default
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

    def insert(self, keys: IntArray, values: IntArray) -> None:
        """Insert keys with their values. The keys must be distinct and not yet in the table."""
        self._size += len(keys)
        if 4 * self._size > len(self._keys):  # load factor at most 1/4: long probe sequences are slow
            taken = self._keys != _EMPTY
            keys, values = np.append(self._keys[taken], keys), np.append(self._values[taken], values)
            self._resize((8 * self._size).bit_length())
        slots = self._slots(keys)
        while len(keys):
            free = self._keys[slots] == _EMPTY
            self._keys[slots[free]] = keys[free]  # of several keys for one slot NumPy stores the last
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
