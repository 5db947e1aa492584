"""Interning of pieces: each distinct piece of a text gets an index, without a Python string for any.

A text has millions of pieces and thousands of distinct ones. Each piece is hashed, all in a few NumPy calls, and its
index is looked up by the hash. Then every piece is compared with the stored piece of that index, so that hash
collisions are detected and resolved: equal indices always mean equal pieces.

References
----------
.. [1] R. Karp, M. Rabin, "Efficient randomized pattern-matching algorithms", for polynomial hashes,
   https://doi.org/10.1147/rd.312.0249
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat_words import IntArray, first_occurrences, gather_segments
from axone.tokenizer.bpe.hash_table import IntegerHashTable

Points = NDArray[np.unsignedinteger[Any]]  # code points: one byte each if all are ASCII, otherwise four

_PERIOD = 256  # characters: the powers repeat in longer pieces
_POWERS = np.multiply.accumulate(np.full(_PERIOD, 0xD6E8FEB86659FD93, dtype=np.uint64))
_POSITIVE = (1 << 63) - 1
_CHUNK = 1 << 17  # characters


class PieceTable:
    """Distinct pieces, indexed from 0 in the order of their first occurrence."""

    def __init__(self) -> None:
        self._by_hash = IntegerHashTable(default=-1)
        self._collided: dict[bytes, int] = {}
        self._points = np.empty(1 << 12, dtype="<u4")
        self._starts = np.empty(1 << 10, dtype=np.int64)
        self._lengths = np.empty(1 << 10, dtype=np.int64)
        self._num_pieces = self._num_points = 0

    def __len__(self) -> int:
        return self._num_pieces

    @property
    def points(self) -> NDArray[np.uint32]:
        """Concatenated code points of all distinct pieces, shape (C,)."""
        return self._points[: self._num_points]

    @property
    def lengths(self) -> IntArray:
        """Number of code points of each distinct piece, shape (U,)."""
        return self._lengths[: self._num_pieces]

    def strings(self) -> list[str]:
        """Return the distinct pieces as strings."""
        text = self.points.tobytes().decode("utf-32-le", errors="surrogatepass")
        stops = self.lengths.cumsum().tolist()
        return [text[start:stop] for start, stop in pairwise([0, *stops])]

    def intern(self, points: Points, starts: IntArray) -> IntArray:
        """Return the index of each piece of a text, adding the pieces that are new.

        Parameters
        ----------
        points : ndarray of uint8 or uint32, shape (T,)
            The code points of the text.
        starts : ndarray of int64, shape (N,)
            The start of each piece, the first at 0; no piece is empty.

        Returns
        -------
        ndarray of int64, shape (N,)
        """
        firsts = np.diff(starts // _CHUNK, prepend=-1).nonzero()[0].tolist()  # the first piece of each chunk
        if len(firsts) <= 1:
            return self._intern_chunk(points, starts)
        bounds = [*starts[firsts].tolist(), len(points)]
        indices = [
            self._intern_chunk(points[start:stop], starts[first:last] - start)
            for (first, last), (start, stop) in zip(pairwise([*firsts, len(starts)]), pairwise(bounds))
        ]
        return np.concatenate(indices)

    def _intern_chunk(self, points: Points, starts: IntArray) -> IntArray:
        """Intern the pieces of a text so short that arrays of 8 bytes per character fit into the cache."""
        lengths = np.diff(starts, append=len(points))  # (N,)
        positions = np.arange(len(points)) - np.repeat(starts, lengths)  # (T,) of each character within its piece
        terms = (points + np.uint64(1)) * _POWERS[positions & (_PERIOD - 1)]  # (T,)
        hashes = np.add.reduceat(terms, starts).view(np.int64) & _POSITIVE  # (N,)
        indices = self._by_hash.lookup(hashes)
        unknown = (indices < 0).nonzero()[0]
        if len(unknown):
            new = unknown[first_occurrences(hashes[unknown])]
            self._by_hash.insert(hashes[new], np.arange(len(self), len(self) + len(new)))
            self._store(points, starts[new], lengths[new])
            indices[unknown] = self._by_hash.lookup(hashes[unknown])
        stored = self._points.take(np.repeat(self._starts[indices], lengths) + positions, mode="clip")
        collided = self._lengths[indices] != lengths
        collided[np.searchsorted(starts, (stored != points).nonzero()[0], side="right") - 1] = True
        for i in collided.nonzero()[0].tolist():
            key = points[starts[i] : starts[i] + lengths[i]].astype(np.uint32).tobytes()
            if key not in self._collided:
                self._collided[key] = len(self)
                self._store(points, starts[i : i + 1], lengths[i : i + 1])
            indices[i] = self._collided[key]
        return indices

    def _store(self, points: Points, starts: IntArray, lengths: IntArray) -> None:
        """Append pieces, which get the next indices."""
        pieces, size = len(self) + len(starts), self._num_points + int(lengths.sum())
        if pieces > len(self._starts):
            self._starts = np.concatenate((self._starts, np.empty(pieces, dtype=np.int64)))
            self._lengths = np.concatenate((self._lengths, np.empty(pieces, dtype=np.int64)))
        if size > len(self._points):
            self._points = np.concatenate((self._points, np.empty(size, dtype=np.uint32)))
        self._points[self._num_points : size] = gather_segments(np.arange(len(starts)), points, starts, lengths)
        self._starts[len(self) : pieces] = self._num_points + lengths.cumsum() - lengths
        self._lengths[len(self) : pieces] = lengths
        self._num_pieces, self._num_points = pieces, size
