"""Counting pieces, block by block, in one process or in several whose counts are then added."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat import IntArray
from axone.tokenizer.bpe.patterns import PreTokenizer, code_points
from axone.tokenizer.bpe.pieces import PieceTable
from axone.tokenizer.bpe.rules import BREAK


class Counts(NamedTuple):
    """Different pieces, U of them, and how often each occurs.

    Attributes
    ----------
    points : NDArray[np.uint32], shape (C,)
        The code points of all, one piece after another.
    lengths : IntArray, shape (U,)
        How many each has.
    counts : IntArray, shape (U,)
        How often each occurs.
    """

    points: NDArray[np.uint32]
    lengths: IntArray
    counts: IntArray


class PieceCounter:
    """Counts pieces.

    Parameters
    ----------
    splitter : PreTokenizer
        What cuts a block into pieces.
    """

    def __init__(self, splitter: PreTokenizer) -> None:
        self._splitter = splitter
        self._table = PieceTable()
        self._counts = np.zeros(1, dtype=np.int64)

    def count(self, block: str) -> None:
        """Count the pieces of a block of text."""
        points = code_points(block)
        numbers = self._table.number(points, self._splitter.cut(block, points))
        counts = self._current_counts()
        counts += np.bincount(numbers, minlength=len(counts))

    def add(self, counts: Counts) -> None:
        """Add what another has counted."""
        if len(counts.lengths):
            numbers = self._table.number(counts.points, counts.lengths.cumsum() - counts.lengths)  # (U,) all different
            self._current_counts()[numbers] += counts.counts

    def counts(self) -> Counts:
        """Return what was counted, in the form that another takes."""
        return Counts(self._table.points, self._table.lengths, self._current_counts())

    def pieces(self) -> tuple[list[bytes], IntArray]:
        """Return the pieces that are text, in UTF-8, and how often each occurs, shape (U,)."""
        pieces = self._table.strings()
        is_text = np.array([piece != BREAK for piece in pieces], dtype=np.bool_)
        return [piece.encode() for piece in pieces if piece != BREAK], self._current_counts()[is_text]

    def _current_counts(self) -> IntArray:
        """Return the counts of all pieces, those that are new at zero, to be written to."""
        missing = len(self._table) - len(self._counts)
        if missing > 0:
            self._counts = np.append(self._counts, np.zeros(missing + len(self._table), dtype=np.int64))
        return self._counts[: len(self._table)]
