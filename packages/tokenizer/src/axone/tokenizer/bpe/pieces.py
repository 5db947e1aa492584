"""The distinct pieces of a text, numbered, without making a string of any.

A text has millions of pieces and thousands of different ones. Each piece is hashed, all in a few calls of NumPy, and looked up by its
hash; then every piece is compared with the one that its number stands for, so that a collision of hashes is found, and put right, and
numbers are exact.

References
----------
.. [1] R. Karp, M. Rabin, "Efficient randomized pattern-matching algorithms", for hashes that are polynomials in the characters,
   https://doi.org/10.1147/rd.312.0249
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat import IntArray, expand, first_of_equals
from axone.tokenizer.bpe.lookup import IntegerTable

Points = NDArray[np.unsignedinteger[Any]]  # code points: one byte each if all are ASCII, else four

_PERIOD = 256  # characters: a longer piece begins again with the first power
_POWERS = np.multiply.accumulate(np.full(_PERIOD, 0xD6E8FEB86659FD93, dtype=np.uint64))
_POSITIVE = (1 << 63) - 1
_AT_ONCE = 1 << 17  # characters


class PieceTable:
    """Numbers for pieces, from 0 up, the same for equal pieces."""

    def __init__(self) -> None:
        self._by_hash = IntegerTable(default=-1)
        self._collided: dict[bytes, int] = {}
        self._points = np.empty(1 << 12, dtype="<u4")
        self._starts = np.empty(1 << 10, dtype=np.int64)
        self._lengths = np.empty(1 << 10, dtype=np.int64)
        self._num_pieces = self._num_points = 0

    def __len__(self) -> int:
        return self._num_pieces

    @property
    def points(self) -> NDArray[np.uint32]:
        """The code points of all numbered pieces, one piece after another, shape (C,)."""
        return self._points[: self._num_points]

    @property
    def lengths(self) -> IntArray:
        """The number of code points of each numbered piece, shape (U,)."""
        return self._lengths[: self._num_pieces]

    def strings(self) -> list[str]:
        """Return the numbered pieces."""
        text = self.points.tobytes().decode("utf-32-le", errors="surrogatepass")
        stops = self.lengths.cumsum().tolist()
        return [text[start:stop] for start, stop in pairwise([0, *stops])]

    def number(self, points: Points, starts: IntArray) -> IntArray:
        """Return the number of each piece of a text.

        Parameters
        ----------
        points : Points, shape (T,)
            The text.
        starts : IntArray, shape (N,)
            Where its pieces start, the first at 0, none empty.

        Returns
        -------
        IntArray, shape (N,)
            Their numbers.
        """
        firsts = (
            np.diff(starts // _AT_ONCE, prepend=-1).nonzero()[0].tolist()
        )  # pieces that begin a stretch of the text
        if len(firsts) <= 1:
            return self._number(points, starts)
        bounds = [*starts[firsts].tolist(), len(points)]
        numbers = [
            self._number(points[start:stop], starts[first:last] - start)
            for (first, last), (start, stop) in zip(pairwise([*firsts, len(starts)]), pairwise(bounds))
        ]
        return np.concatenate(numbers)

    def _number(self, points: Points, starts: IntArray) -> IntArray:
        """Number the pieces of a text that is short enough for arrays of 8 bytes a character."""
        lengths = np.diff(starts, append=len(points))  # (N,)
        positions = np.arange(len(points)) - np.repeat(starts, lengths)  # (T,) of each character within its piece
        terms = (points + np.uint64(1)) * _POWERS[positions & (_PERIOD - 1)]  # (T,)
        hashes = np.add.reduceat(terms, starts).view(np.int64) & _POSITIVE  # (N,)
        numbers = self._by_hash.find(hashes)
        unknown = (numbers < 0).nonzero()[0]
        if len(unknown):
            new = unknown[first_of_equals(hashes[unknown])]
            self._by_hash.add(hashes[new], np.arange(len(self), len(self) + len(new)))
            self._keep(points, starts[new], lengths[new])
            numbers[unknown] = self._by_hash.find(hashes[unknown])
        kept = self._points.take(np.repeat(self._starts[numbers], lengths) + positions, mode="clip")
        collided = self._lengths[numbers] != lengths
        collided[np.searchsorted(starts, (kept != points).nonzero()[0], side="right") - 1] = True
        for i in collided.nonzero()[0].tolist():
            key = points[starts[i] : starts[i] + lengths[i]].astype(np.uint32).tobytes()
            if key not in self._collided:
                self._collided[key] = len(self)
                self._keep(points, starts[i : i + 1], lengths[i : i + 1])
            numbers[i] = self._collided[key]
        return numbers

    def _keep(self, points: Points, starts: IntArray, lengths: IntArray) -> None:
        """Store pieces under the next numbers."""
        pieces, size = len(self) + len(starts), self._num_points + int(lengths.sum())
        if pieces > len(self._starts):
            self._starts = np.concatenate((self._starts, np.empty(pieces, dtype=np.int64)))
            self._lengths = np.concatenate((self._lengths, np.empty(pieces, dtype=np.int64)))
        if size > len(self._points):
            self._points = np.concatenate((self._points, np.empty(size, dtype=np.uint32)))
        self._points[self._num_points : size] = expand(np.arange(len(starts)), points, starts, lengths)
        self._starts[len(self) : pieces] = self._num_points + lengths.cumsum() - lengths
        self._lengths[len(self) : pieces] = lengths
        self._num_pieces, self._num_points = pieces, size
