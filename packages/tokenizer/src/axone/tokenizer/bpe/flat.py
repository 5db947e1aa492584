"""Many sequences laid end to end in arrays: the form in which NumPy merges in many places at once."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

GONE = -1  # no symbol here: a separator, or the right half of a merged pair


@dataclass(frozen=True, slots=True)
class FlatWords:
    """Words as one array of symbols, with a separator before each word and one after the last.

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
    """

    symbols: IntArray
    following: IntArray
    preceding: IntArray
    starts: IntArray
    sizes: IntArray


def lay_out(symbols: IntArray, lengths: IntArray) -> FlatWords:
    """Lay words out, given the symbols of all and how many each has."""
    sizes = lengths + 1  # (N,)
    starts = sizes.cumsum() - sizes  # (N,)
    positions = len(symbols) + len(lengths) + 1
    inside = np.ones(positions, dtype=np.bool_)  # (P,)
    inside[starts] = False
    inside[-1] = False
    spaced = np.full(positions, GONE, dtype=np.int64)  # (P,)
    spaced[inside] = symbols
    return FlatWords(spaced, np.arange(1, positions + 1), np.arange(-1, positions - 1), starts, sizes)


def first_of_equals(values: IntArray) -> IntArray:
    """Return the place of one of each set of equal values, in the order of values. (`np.unique` imports all of `numpy.ma`.)"""
    order = values.argsort(kind="stable")
    ordered = values[order]
    different = np.ones(len(values), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=different[1:])
    return order[different]


def pair_key(left: IntArray, right: IntArray) -> IntArray:
    """Return one integer for each pair of ids, ordered as the pairs are; negative where either is `GONE`."""
    return left << 32 | right


def expand(
    numbers: NDArray[np.integer[Any]], values: NDArray[_Scalar], starts: IntArray, counts: IntArray
) -> NDArray[_Scalar]:
    """Put in place of each number its values: those from its start on, as many as its count.

    Parameters
    ----------
    numbers : NDArray[np.integer], shape (N,)
        Indices into `starts` and `counts`.
    values : NDArray, shape (S,)
        What is put in place.
    starts, counts : IntArray, shape (M,)
        Where the values of each number are.
    """
    taken = counts[numbers]  # (N,)
    jumps = starts[numbers] - (taken.cumsum() - taken)  # from a place in what is returned to its place in `values`
    expanded: NDArray[_Scalar] = values[np.repeat(jumps, taken) + np.arange(taken.sum())]
    return expanded
