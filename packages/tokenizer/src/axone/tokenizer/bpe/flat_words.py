"""Flat layout of many sequences in one array, so that NumPy can merge at many positions at once."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

REMOVED = -1  # not a token: a separator, or the right half of a merged pair


@dataclass(frozen=True, slots=True)
class FlatWords:
    """Words as one array of token ids, with a separator before each word and one after the last.

    Parameters
    ----------
    symbols : ndarray of int64, shape (P,)
        Token ids; `REMOVED` at separators.
    following, preceding : ndarray of int64, shape (P,)
        The position of each position's right and left neighbour.
    starts : ndarray of int64, shape (N,)
        The position of the separator before each word.
    sizes : ndarray of int64, shape (N,)
        The number of positions of each word, its separator included.
    """

    symbols: IntArray
    following: IntArray
    preceding: IntArray
    starts: IntArray
    sizes: IntArray


def flatten_words(symbols: IntArray, lengths: IntArray) -> FlatWords:
    """Insert separators between words, given their concatenated symbols and the length of each."""
    sizes = lengths + 1  # (N,)
    starts = sizes.cumsum() - sizes  # (N,)
    positions = len(symbols) + len(lengths) + 1
    inside = np.ones(positions, dtype=np.bool_)  # (P,)
    inside[starts] = False
    inside[-1] = False
    spaced = np.full(positions, REMOVED, dtype=np.int64)  # (P,)
    spaced[inside] = symbols
    return FlatWords(spaced, np.arange(1, positions + 1), np.arange(-1, positions - 1), starts, sizes)


def first_occurrences(values: IntArray) -> IntArray:
    """Return the first index of each distinct value, in the order of values.

    It replaces `np.unique`, which imports all of `numpy.ma`.
    """
    order = values.argsort(kind="stable")
    ordered = values[order]
    different = np.ones(len(values), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=different[1:])
    return order[different]


def pair_key(left: IntArray, right: IntArray) -> IntArray:
    """Return one integer per pair of ids, in the order of pairs; negative if either id is `REMOVED`."""
    return left << 32 | right


def gather_segments(
    indices: NDArray[np.integer[Any]], values: NDArray[_Scalar], starts: IntArray, counts: IntArray
) -> NDArray[_Scalar]:
    """Concatenate ``values[starts[i] : starts[i] + counts[i]]`` over the indices `i`.

    Parameters
    ----------
    indices : ndarray of int, shape (N,)
        Indices into `starts` and `counts`.
    values : ndarray, shape (S,)
        The array that holds all segments.
    starts, counts : ndarray of int64, shape (M,)
        The start and the length of each segment.
    """
    taken = counts[indices]  # (N,)
    shifts = starts[indices] - (taken.cumsum() - taken)  # from a position in the result to its position in `values`
    gathered: NDArray[_Scalar] = values[np.repeat(shifts, taken) + np.arange(taken.sum())]
    return gathered
