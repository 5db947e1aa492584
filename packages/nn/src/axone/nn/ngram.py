"""NgramEmbedding: learned vectors of the last ids, two, three and more, found by a hash.

A small Transformer spends its first steps on learning which ids follow each other. Tables with a vector per pair, per
triple and so on give it that at the price of lookups. Where a table has fewer rows than there are n-grams, several share a
row. With several hashes, each finds a part of the vector: two n-grams that share one part differ in the others.

In several passes over a small text the tables learn it by heart. Dropout of whole vectors, each of a position and a table,
keeps the rest of the model from relying on them.

References
----------
.. [1] H. Huang et al., "Over-Tokenized Transformer" (hashed n-gram embeddings), https://arxiv.org/abs/2501.16975
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn import init
from axone.nn.cache import KVCache
from axone.nn.decoding import DecodeContext
from axone.nn.dropout import Dropout
from axone.nn.functional import embedding
from axone.nn.functional.validation import check_sizes
from axone.nn.module import Module, Parameter
from axone.nn.position import Positions

Ids: TypeAlias = NDArray[np.integer[Any]]

NgramForward: TypeAlias = Callable[[Ids, KVCache, DecodeContext], Array]
"""From ids (B, T), the cache of earlier ids and a context to rows (B T, C)."""

_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio
_HIGH = np.uint64(32)


class NgramEmbedding(Module):
    """The sum of a learned vector for the last two ids, one for the last three, and so on; all zero at first.

    Ids before the first position of a sequence count as 0.

    Parameters
    ----------
    num_embeddings : int
        V, the number of ids.
    embedding_dim : int
        C, the length of a vector.
    rows : sequence of int
        Rows of the table of pairs, of triples, and so on.
    num_hashes : int, default 1
        H, the number of hashes of an n-gram.
    dropout : float, default 0
        The probability, in training, that the vector of an n-gram is zero; the others are scaled up.
    rng : numpy.random.Generator, optional
        Draws which; None makes a new one.

    Attributes
    ----------
    num_embeddings, num_hashes : int
    dropout : Dropout
    tables : list of Parameter
        Of pairs, of triples, and so on, each of shape (H rows, C / H): the rows of the first hash, then those of the second.

    Raises
    ------
    ValueError
        If a number is not positive, there is no table, H does not divide C, or `dropout` is not in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn import NgramEmbedding
    >>> ngrams = NgramEmbedding(10, 4, [100, 50])
    >>> ngrams(np.array([[1, 2, 1]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rows: Sequence[int],
        *,
        num_hashes: int = 1,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_sizes("NgramEmbedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim, num_hashes=num_hashes)
        if not rows or min(rows) < 1:
            raise ValueError(f"rows ({list(rows)}) must be at least one number, each at least 1")
        if embedding_dim % num_hashes:
            raise ValueError(f"embedding_dim ({embedding_dim}) must be divisible by num_hashes ({num_hashes})")
        self.num_embeddings = num_embeddings
        self.num_hashes = num_hashes
        self._width = embedding_dim
        factors = [pow(_MULTIPLIER, power, 1 << 64) for power in range(1, num_hashes + 1)]
        self._factors = np.array(factors, np.uint64)  # (H,)
        self.tables = [Parameter(init.empty(num_hashes * count, embedding_dim // num_hashes)) for count in rows]
        for table in self.tables:
            init.constant(table, 0)
        self.dropout = Dropout(dropout, rng=rng)

    def __call__(self, ids: Ids, *, positions: Positions | None = None, before: Ids | None = None) -> Tensor:
        """Return the sum of the vectors of the n-grams that end at each position.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        positions : ndarray of int, shape (T,) or (B, T), optional
            Counted from the beginning of each sequence, by default that of the row.
        before : ndarray of int, shape (P,), optional
            Ids before position 0 of every sequence.

        Returns
        -------
        Tensor, shape (B, T, C)
        """
        positions = np.arange(ids.shape[1]) if positions is None else positions
        parts = [
            self._kept(embedding(self.rows(ids, positions, order, len(table.data), before), table))
            for order, table in enumerate(self.tables, 2)
        ]
        total = parts[0]  # (B, T, H, C / H)
        for part in parts[1:]:
            total = total + part
        return total.reshape(*total.shape[:2], self._width)

    def _kept(self, vectors: Tensor) -> Tensor:
        """Return the vectors of one table, (B, T, H, C / H), in training with some of all H parts zeroed."""
        if not self.training or not self.dropout.p:
            return vectors
        ones = Tensor(np.ones((*vectors.shape[:2], 1, 1), vectors.dtype))
        return vectors * self.dropout(ones)

    def rows(
        self, ids: Ids, positions: Positions, order: int, count: int, before: Ids | None = None
    ) -> NDArray[np.intp]:
        """Return the rows of the n-grams that end at the last T columns.

        Parameters
        ----------
        ids : ndarray of int, shape (B, S)
            S is at least T: the first columns only precede the others.
        positions : ndarray of int, shape (T,) or (B, T)
        order : int
            n.
        count : int
            Rows of the table, those of all hashes.
        before : ndarray of int, shape (P,), optional

        Returns
        -------
        ndarray of int, shape (B, T, H)
            The n-gram as a number of n digits to the base V, if a hash has so many rows; otherwise its hashes.
        """
        count //= self.num_hashes
        T, S = positions.shape[-1], ids.shape[1]
        number = ids[:, S - T :].astype(np.uint64)  # (B, T)
        for back in range(1, order):
            previous = np.zeros_like(number)  # (B, T)
            first = max(S - T - back, 0)
            previous[:, first + back - (S - T) :] = ids[:, first : max(S - back, 0)]
            outside = positions < back
            if outside.any():
                previous = np.where(outside, _preceding(before, positions - back), previous)
            number += previous * np.uint64(self.num_embeddings**back % 2**64)
        number = number[..., None]  # (B, T, 1)
        if self.num_embeddings**order > count:
            number = ((number * self._factors) >> _HIGH) % np.uint64(count)
        return number.astype(np.intp) + count * np.arange(self.num_hashes)

    def lookup(self, tables: Sequence[Array], *, centred: bool = False) -> NgramForward:
        """Return the layer's forward on plain arrays, with a cache that keeps the ids of earlier positions.

        Parameters
        ----------
        tables : sequence of ndarray
            The values of `tables`, or copies of them.
        centred : bool, default False
            Whether the mean of each vector is subtracted from it.
        """
        earlier = len(self.tables)

        def forward(ids: Ids, cache: KVCache, context: DecodeContext) -> Array:
            new = ids[:, None, :, None].astype(tables[0].dtype)  # (B, 1, T, 1)
            kept = cache.append(new, new)[0][:, 0, -(ids.shape[1] + earlier) :, 0].astype(np.int64)  # (B, S)
            parts = (
                table.take(self.rows(kept, context.positions, order, len(table)).reshape(-1), axis=0)
                for order, table in enumerate(tables, 2)
            )
            total = next(parts)  # (B T H, C / H)
            for part in parts:
                total += part
            total = total.reshape(-1, self._width)  # (B T, C)
            if centred:
                total -= total.mean(axis=-1, keepdims=True)
            return total

        return forward

    def make_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache for ids, which float32 holds exactly up to 2^24."""
        return KVCache(batch, 1, max_length, 1, dtype=self.tables[0].dtype)

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        rows = [table.shape[0] // self.num_hashes for table in self.tables]
        hashes = "" if self.num_hashes == 1 else f", num_hashes={self.num_hashes}"
        dropout = "" if not self.dropout.p else f", dropout={self.dropout.p}"
        return f"{self.num_embeddings}, {self._width}, rows={rows}{hashes}{dropout}"


def _preceding(before: Ids | None, at: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return the ids at negative positions: those before a sequence, or 0 where there are none."""
    if before is None or not len(before):
        return np.zeros(at.shape, np.uint64)
    found = before[np.clip(at + len(before), 0, len(before) - 1)].astype(np.uint64)
    return np.where(at + len(before) >= 0, found, np.uint64(0))
