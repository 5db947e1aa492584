"""Counts of the distinct pieces of a text, block by block. Counts of several processes can be added."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat_words import IntArray
from axone.tokenizer.bpe.patterns import PreTokenizer, code_points
from axone.tokenizer.bpe.piece_table import PieceTable
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR


class Counts(NamedTuple):
    """U distinct pieces and the number of occurrences of each.

    Attributes
    ----------
    points : ndarray of uint32, shape (C,)
        The concatenated code points of all pieces.
    lengths : ndarray of int64, shape (U,)
        The number of code points of each piece.
    counts : ndarray of int64, shape (U,)
        The number of occurrences of each piece.
    """

    points: NDArray[np.uint32]
    lengths: IntArray
    counts: IntArray


class PieceCounter:
    """Counter of distinct pieces.

    Parameters
    ----------
    pre_tokenizer : PreTokenizer
        Splits a block into pieces.
    """

    def __init__(self, pre_tokenizer: PreTokenizer) -> None:
        self._pre_tokenizer = pre_tokenizer
        self._table = PieceTable()
        self._counts = np.zeros(1, dtype=np.int64)

    def count(self, block: str) -> None:
        """Count the pieces of a block of text."""
        points = code_points(block)
        indices = self._table.intern(points, self._pre_tokenizer.split(block, points))
        counts = self._current_counts()
        counts += np.bincount(indices, minlength=len(counts))

    def add(self, counts: Counts) -> None:
        """Add the counts of another counter."""
        if len(counts.lengths):
            indices = self._table.intern(counts.points, counts.lengths.cumsum() - counts.lengths)  # (U,) distinct
            self._current_counts()[indices] += counts.counts

    def counts(self) -> Counts:
        """Return all counts, in the form that `add` takes."""
        return Counts(self._table.points, self._table.lengths, self._current_counts())

    def pieces(self) -> tuple[list[bytes], IntArray]:
        """Return the pieces of text in UTF-8, without separators, and the count of each, shape (U,)."""
        pieces = self._table.strings()
        is_text = np.array([piece != SEPARATOR for piece in pieces], dtype=np.bool_)
        return [piece.encode() for piece in pieces if piece != SEPARATOR], self._current_counts()[is_text]

    def _current_counts(self) -> IntArray:
        """Return a writable view of the counts of all pieces; new pieces have count 0."""
        missing = len(self._table) - len(self._counts)
        if missing > 0:
            self._counts = np.append(self._counts, np.zeros(missing + len(self._table), dtype=np.int64))
        return self._counts[: len(self._table)]
