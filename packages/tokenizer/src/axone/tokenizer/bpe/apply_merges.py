"""Application of BPE merges: words to token ids.

The rule is "merge the pair of lowest rank, the leftmost of equals, until no pair has a rank". Two implementations:

- `PairMerger.merge_word` merges one word of any length in ``O(n log n)``: a heap of candidates over a linked list.
- `PairMerger.merge_words` merges many words at once: each round merges one pair in every unfinished word, in a few
  NumPy calls. It makes long texts fast, which have ten thousands of new words; a single long word would need as many
  rounds as it has merges.

A character outside ASCII is two to four bytes, which most vocabularies merge first. So `merge_words` does not start
from bytes but from the tokens of each single character, computed once per distinct character. Only merges that no
neighbouring character can change are applied in this step: see `_context_free`.

Patterns and special tokens are not handled here.

References
----------
.. [1] A. Karpathy, minbpe, for the rule, https://github.com/karpathy/minbpe
.. [2] tiktoken, likewise, https://github.com/openai/tiktoken
.. [3] The Unicode Standard, chapter 3.9, for UTF-8, https://www.unicode.org/versions/latest/core-spec/
"""

import functools
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat_words import REMOVED, FlatWords, IntArray, flatten_words, gather_segments, pair_key
from axone.tokenizer.bpe.hash_table import IntegerHashTable
from axone.tokenizer.bpe.piece_table import Points
from axone.tokenizer.errors import TokenizerError

_LONG = 256  # symbols: a longer word is merged by `merge_word`
_BATCH = 1 << 17  # symbols that are merged at once: they fit into the processor's cache
_NEVER = 1 << 30  # the rank of a pair that is not among the merges
_LOW = (1 << 32) - 1
_NUM_POINTS = 0x110000  # code points


class PairMerger:
    """Merges and the tables that apply them.

    Parameters
    ----------
    byte_ids : ndarray of int64, shape (256,)
        The token id of each byte.
    merges : sequence of (int, int)
        M distinct pairs of token ids, in the order of their ranks.
    products : sequence of int
        The token id that each merge creates.
    """

    def __init__(self, byte_ids: IntArray, merges: Sequence[tuple[int, int]], products: Sequence[int]) -> None:
        self._byte_ids = byte_ids
        self._pairs = np.array(merges, dtype=np.int64).reshape(-1, 2)  # (M, 2)
        self._keys = pair_key(self._pairs[:, 0], self._pairs[:, 1])  # (M,)
        self._products = np.array(products, dtype=np.int64)  # (M,)
        self._lacks_bytes = bool((byte_ids == REMOVED).any())

    def merge_word(self, word: bytes) -> list[int]:
        """Return the token ids of one word."""
        return self._merge_heap(self._symbols(word).tolist())

    def _merge_heap(self, ids: list[int]) -> list[int]:
        """Merge one word, in place.

        Notes
        -----
        A candidate in the heap is outdated if its pair has changed since it was pushed. Tokens only grow,
        so comparing the candidate's rank with the current rank of its position detects this.
        """
        ranks, products = self._scalar_tables
        size = len(ids)
        following, preceding = list(range(1, size + 1)), list(range(-1, size - 1))
        heap = [
            rank << 32 | i
            for i, pair in enumerate(pairwise(ids))
            if (rank := ranks.get(pair[0] << 32 | pair[1], -1)) >= 0
        ]
        heapify(heap)
        while heap:
            candidate = heappop(heap)
            rank, i = candidate >> 32, candidate & _LOW
            j = following[i]
            if j == size or ids[i] == REMOVED or ranks.get(ids[i] << 32 | ids[j]) != rank:
                continue
            ids[i] = product = products[rank]
            ids[j] = REMOVED
            following[i] = after = following[j]
            if after < size:
                preceding[after] = i
                if (rank := ranks.get(product << 32 | ids[after], -1)) >= 0:
                    heappush(heap, rank << 32 | i)
            before = preceding[i]
            if before >= 0 and (rank := ranks.get(ids[before] << 32 | product, -1)) >= 0:
                heappush(heap, rank << 32 | before)
        return [id for id in ids if id != REMOVED]

    def merge_words(self, points: Points, lengths: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the token ids of many words.

        Parameters
        ----------
        points : ndarray of uint8 or uint32, shape (C,)
            The concatenated code points of all words.
        lengths : ndarray of int64, shape (N,)
            The number of code points of each word, at least one.

        Returns
        -------
        ids : ndarray of int64, shape (T,)
            The ids of all words.
        starts, counts : ndarray of int64, shape (N,)
            The start and the number of the ids of each word.
        """
        symbols, sizes = self._spell(points)
        lengths = np.add.reduceat(sizes, lengths.cumsum() - lengths)  # (N,) in symbols
        # Shortest words first: words of one length finish after about the same number of rounds.
        order = lengths.argsort(kind="stable")
        symbols = gather_segments(order, symbols, lengths.cumsum() - lengths, lengths)
        lengths = lengths[order]
        stops = lengths.cumsum()
        bounds = np.searchsorted(stops, np.arange(_BATCH, stops[-1], _BATCH)).tolist()
        num_short = int(np.searchsorted(lengths, _LONG))
        ids: list[IntArray] = []
        counts: list[IntArray] = []
        for start, stop in pairwise(sorted({0, num_short, *(bound for bound in bounds if bound < num_short)})):
            here = symbols[stops[start] - lengths[start] : stops[stop - 1]]
            merged = self._merge(flatten_words(here, lengths[start:stop]))
            ids.append(merged[0])
            counts.append(merged[1])
        for i in range(num_short, len(lengths)):
            long = self._merge_heap(symbols[stops[i] - lengths[i] : stops[i]].tolist())
            ids.append(np.array(long, dtype=np.int64))
            counts.append(np.array([len(long)]))
        unsorted = np.empty_like(lengths)
        unsorted[order] = joined = np.concatenate(counts)
        starts = np.empty_like(lengths)
        starts[order] = joined.cumsum() - joined
        return np.concatenate(ids), starts, unsorted

    def _symbols(self, data: bytes) -> IntArray:
        """Return the token ids of bytes."""
        symbols = self._byte_ids[np.frombuffer(data, dtype=np.uint8)]
        if self._lacks_bytes and symbols.min(initial=0) == REMOVED:
            byte = data[int(symbols.argmin())]
            raise TokenizerError(
                f"byte 0x{byte:02x} of {data[:40]!r} has no token: the vocabulary that was loaded must hold all "
                "bytes of the text"
            )
        return symbols

    def _spell(self, points: Points) -> tuple[IntArray, IntArray]:
        """Return the tokens of each character after its context-free merges, and the number of tokens of each."""
        present = np.zeros(_NUM_POINTS, dtype=np.bool_)
        present[points] = True
        distinct = present.nonzero()[0]
        characters = [chr(point).encode() for point in distinct.tolist()]
        lengths = np.fromiter(map(len, characters), np.int64, len(characters))
        symbols = self._symbols(b"".join(characters))
        if distinct[-1] >= 0x80:
            symbols, lengths = self._merge(flatten_words(symbols, lengths), self._context_free)
        starts, counts = np.zeros((2, _NUM_POINTS), dtype=np.int64)
        starts[distinct], counts[distinct] = lengths.cumsum() - lengths, lengths
        return gather_segments(points, symbols, starts, counts), counts[points]

    def _merge(self, words: FlatWords, allowed: NDArray[np.bool_] | None = None) -> tuple[IntArray, IntArray]:
        """Merge each word until it has no pair with a rank, or until its next merge is not allowed.

        Notes
        -----
        Each position holds one integer: the rank of the pair that begins there in the high bits, the
        position in the low bits, so that the minimum of a word is its next merge. Finished words are dropped once
        they are the majority.
        """
        symbols, following, preceding = words.symbols, words.following, words.preceding
        starts, sizes = words.starts, words.sizes
        if symbols.max() < 256:
            ranks = self._low_ranks[symbols[:-1], symbols[1:]]
        else:
            ranks = self._rank_table.lookup(pair_key(symbols[:-1], symbols[1:]))
        best = ranks << 32 | np.arange(len(ranks))  # (P - 1,)
        shift = np.zeros_like(starts)  # from a position in `best` to its position in `symbols`
        while True:
            smallest = np.minimum.reduceat(best, starts)
            unfinished_mask = smallest < _NEVER << 32
            if allowed is not None:
                unfinished_mask[unfinished_mask] = allowed[smallest[unfinished_mask] >> 32]
            unfinished = unfinished_mask.nonzero()[0]
            if not len(unfinished):
                break
            smallest = smallest[unfinished]
            if 2 * len(unfinished) < len(starts):
                best = best[np.repeat(unfinished_mask, sizes)]
                sizes, shift = sizes[unfinished], (starts + shift)[unfinished]
                starts = sizes.cumsum() - sizes
                shift -= starts
                unfinished = np.arange(len(starts))
            positions = smallest & _LOW
            seconds, lefts = following[positions], preceding[positions]
            rights = following[seconds]
            products = self._products[smallest >> 32]
            symbols[positions] = products
            symbols[seconds] = REMOVED
            following[positions] = rights
            preceding[rights] = positions
            changed = np.concatenate((lefts, positions))
            keys = np.concatenate((pair_key(symbols[lefts], products), pair_key(products, symbols[rights])))
            shifts = shift[unfinished]
            best[seconds - shifts] = _NEVER << 32
            best[changed - np.concatenate((shifts, shifts))] = self._rank_table.lookup(keys) << 32 | changed
        alive = symbols != REMOVED  # (P,)
        return symbols[alive], np.add.reduceat(alive, words.starts, dtype=np.int64)

    @functools.cached_property
    def _context_free(self) -> NDArray[np.bool_]:
        """Mask of the merges within one character that do not depend on its neighbours, shape (M,).

        A merge is crossing if a character ends inside its product. A merge within a character is context-free if no
        crossing merge of lower rank uses either of its parts: then no neighbour can take a part first. Applying such
        merges before all others changes no result, provided that each product is used only by merges of higher rank.
        This holds for every trained vocabulary; in one for which it does not, no merge is context-free.
        """
        lefts, rights = self._pairs.T  # (M,)
        ranks = np.arange(len(self._pairs))
        num_ids = int(max(self._byte_ids.max(), self._pairs.max(initial=0), self._products.max(initial=0))) + 1
        created = np.full(num_ids, -1)
        created[self._products] = ranks  # the last merge that creates it
        if (created[lefts] >= ranks).any() or (created[rights] >= ranks).any():
            return np.zeros(len(ranks), dtype=np.bool_)
        begins, crosses = (
            [False] * num_ids,
            [False] * num_ids,
        )  # whether a token begins with a character; whether one ends inside it
        for byte, id in enumerate(self._byte_ids.tolist()):
            begins[id] = not 0x80 <= byte < 0xC0
        for (left, right), product in zip(self._pairs.tolist(), self._products.tolist()):
            begins[product] = begins[left]
            crosses[product] = crosses[left] or begins[right] or crosses[right]
        crossing = np.array(crosses)[self._products]
        from_left, from_right = np.full((2, num_ids), _NEVER)  # the lowest rank of a crossing merge that uses the token
        lowest_last = crossing.nonzero()[0][::-1]
        from_left[rights[lowest_last]] = lowest_last
        from_right[lefts[lowest_last]] = lowest_last
        return ~crossing & (ranks < from_left[lefts]) & (ranks < from_right[rights])

    @functools.cached_property
    def _scalar_tables(self) -> tuple[dict[int, int], list[int]]:
        ranks = {key: rank for rank, key in enumerate(self._keys.tolist())}
        return ranks, self._products.tolist()

    @functools.cached_property
    def _low_ranks(self) -> IntArray:
        """Rank of each pair of ids below 256, shape (257, 257); `REMOVED` is the last row and column."""
        ids = np.append(np.arange(256), REMOVED)
        return self._rank_table.lookup(pair_key(ids[:, None], ids).ravel()).reshape(257, 257)

    @functools.cached_property
    def _rank_table(self) -> IntegerHashTable:
        table = IntegerHashTable(default=_NEVER)
        table.insert(self._keys, np.arange(len(self._keys)))
        return table
