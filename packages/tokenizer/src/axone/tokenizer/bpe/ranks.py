"""The rank of a pair of tokens, looked up for whole arrays of pairs at once.

A hash table of which each slot is one element of an array: NumPy probes as many slots as there are pairs in one call.

Sources: D. Knuth, *The Art of Computer Programming*, volume 3, section 6.4, for hashing by multiplication and open addressing.
"""

import numpy as np

from axone.tokenizer.bpe.flat import IntArray

NEVER = 1 << 30  # the rank of a pair that no merge joins


class RankTable:
    """The rank of a pair by its key, for arrays of keys: a hash table of which each slot is one element of an array.

    Parameters
    ----------
    keys : IntArray, shape (M,)
        Their ranks are 0 to M - 1.
    """

    _EMPTY = np.int64(-(1 << 63))

    def __init__(self, keys: IntArray) -> None:
        bits = max(4, (4 * len(keys)).bit_length())  # at most a quarter of the slots is taken
        self._down = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._keys = np.full(1 << bits, self._EMPTY, dtype=np.int64)
        self._ranks = np.full(1 << bits, NEVER, dtype=np.int64)
        todo, slots = np.arange(len(keys)), self._slots(keys)
        while len(todo):  # those whose slot is taken try the next one
            free = self._keys[slots] == self._EMPTY
            self._keys[slots[free]] = keys[todo[free]]
            placed = self._keys[slots] == keys[todo]
            self._ranks[slots[placed]] = todo[placed]
            todo, slots = todo[~placed], (slots[~placed] + 1) & self._last

    def find(self, keys: IntArray) -> IntArray:
        """Return the rank of each key, and `NEVER` for unknown and for negative ones."""
        slots = self._slots(keys)
        held = self._keys[slots]
        ranks: IntArray = self._ranks[slots]
        other = held != keys
        ranks[other] = NEVER
        todo = (other & (held != self._EMPTY)).nonzero()[0]
        slots = slots[todo]
        while len(todo):
            slots = (slots + 1) & self._last
            held = self._keys[slots]
            hit = held == keys[todo]
            ranks[todo[hit]] = self._ranks[slots[hit]]
            further = ~hit & (held != self._EMPTY)
            todo, slots = todo[further], slots[further]
        return ranks

    def _slots(self, keys: IntArray) -> IntArray:
        return (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> self._down).view(np.int64)
