"""Many words laid end to end in one array, with links to neighbours: the form in which training and encoding merge pairs.

Sources: the doubly linked list over an array is the usual structure of fast BPE, here with all words in one array so that
NumPy can merge in many places at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

GONE = -1  # no symbol here: a separator, or the right half of a merged pair


@dataclass(frozen=True, slots=True)
class FlatWords:
    """Words as one array of symbols: a separator before each word and one after the last.

    Parameters
    ----------
    symbols : IntArray, shape (P,)
        Token ids; `GONE` at separators.
    following, preceding : IntArray, shape (P,)
        The positions of each position's neighbours.
    starts : IntArray, shape (N,)
        The position of the separator before each word.
    sizes : IntArray, shape (N,)
        The number of positions of each word, its separator included.
    bytes : NDArray[np.uint8], shape (P - N - 1,)
        The words themselves.
    inside : NDArray[np.bool_], shape (P,)
        Where they lie: everywhere but at separators.
    """

    symbols: IntArray
    following: IntArray
    preceding: IntArray
    starts: IntArray
    sizes: IntArray
    bytes: NDArray[np.uint8]
    inside: NDArray[np.bool_]


def lay_out(words: Sequence[bytes], byte_ids: IntArray) -> FlatWords:
    """Lay words out, each byte as the token id that `byte_ids` gives it."""
    sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1  # (N,)
    ends = np.cumsum(sizes)  # (N,)
    positions = int(sizes.sum()) + 1
    starts = ends - sizes
    inside = np.ones(positions, dtype=np.bool_)  # (P,)
    inside[starts] = False
    inside[-1] = False
    symbols = np.full(positions, GONE, dtype=np.int64)  # (P,)
    joined = np.frombuffer(b"".join(words), dtype=np.uint8)
    symbols[inside] = byte_ids[joined]
    following, preceding = np.arange(1, positions + 1), np.arange(-1, positions - 1)  # (P,)
    return FlatWords(symbols, following, preceding, starts, sizes, joined, inside)


def pair_key(left: IntArray, right: IntArray) -> IntArray:
    """Return one integer for each pair of ids, ordered as the pairs are; negative where either is `GONE`."""
    return left << 32 | right
