"""Applying merges: words in, token ids out, exactly as if the best merge were looked for anew after each one.

Two forms of the same rule, "join the pair of lowest rank, the leftmost of equals, until no pair can be joined":

- `PairMerger.merge_word` takes one word of any length, in time ``n log n``: a heap of candidates over a linked list.
- `PairMerger.merge_words` takes many words at once: each round joins one pair in every word that still has one, in a few calls
  of NumPy. It is what makes a long text fast, whose new words come by the ten thousand; a single long word would need as many
  rounds as it has merges.

Beyond ASCII a character is two to four bytes, which most vocabularies join first. So many words begin not as bytes but as what becomes
of each of their characters alone, found once for each character, and only as far as nothing around it can change that: see `_certain`.

It knows nothing of patterns and special tokens.

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

from axone.tokenizer.bpe.flat import GONE, FlatWords, IntArray, expand, lay_out, pair_key
from axone.tokenizer.bpe.lookup import IntegerTable
from axone.tokenizer.bpe.pieces import Points
from axone.tokenizer.protocol import TokenizerError

_LONG = 256  # symbols: a longer word is merged alone
_BATCH = 1 << 17  # symbols that are merged at once: what the processor's cache holds
_NEVER = 1 << 30  # the rank of a pair that no merge joins
_LOW = (1 << 32) - 1
_NUM_POINTS = 0x110000  # code points


class PairMerger:
    """Merges, ready to be applied.

    Parameters
    ----------
    byte_ids : IntArray, shape (256,)
        The token id of each byte.
    merges : Sequence[tuple[int, int]]
        M pairs of token ids, in the order of their ranks, none twice.
    products : Sequence[int]
        The token id that each pair makes.
    """

    def __init__(self, byte_ids: IntArray, merges: Sequence[tuple[int, int]], products: Sequence[int]) -> None:
        self._byte_ids = byte_ids
        self._pairs = np.array(merges, dtype=np.int64).reshape(-1, 2)  # (M, 2)
        self._keys = pair_key(self._pairs[:, 0], self._pairs[:, 1])  # (M,)
        self._products = np.array(products, dtype=np.int64)  # (M,)
        self._lacks_bytes = bool((byte_ids == GONE).any())

    def merge_word(self, word: bytes) -> list[int]:
        """Return the token ids of one word."""
        return self._merge_heap(self._symbols(word).tolist())

    def _merge_heap(self, ids: list[int]) -> list[int]:
        """Merge one word, in place.

        Notes
        -----
        A candidate in the heap is outdated when its pair has changed since. Tokens are only ever joined, so the rank that a
        place has now tells.
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
            if j == size or ids[i] == GONE or ranks.get(ids[i] << 32 | ids[j]) != rank:
                continue
            ids[i] = product = products[rank]
            ids[j] = GONE
            following[i] = after = following[j]
            if after < size:
                preceding[after] = i
                if (rank := ranks.get(product << 32 | ids[after], -1)) >= 0:
                    heappush(heap, rank << 32 | i)
            before = preceding[i]
            if before >= 0 and (rank := ranks.get(ids[before] << 32 | product, -1)) >= 0:
                heappush(heap, rank << 32 | before)
        return [id for id in ids if id != GONE]

    def merge_words(self, points: Points, lengths: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the token ids of many words.

        Parameters
        ----------
        points : Points, shape (C,)
            The code points of all words, one word after another.
        lengths : IntArray, shape (N,)
            How many each has, at least one.

        Returns
        -------
        ids : IntArray, shape (T,)
            The ids of all words.
        starts, counts : IntArray, shape (N,)
            Where those of each word start, and how many they are.
        """
        symbols, sizes = self._spell(points)
        lengths = np.add.reduceat(sizes, lengths.cumsum() - lengths)  # now of symbols
        # Shortest words first: those of one length are done at about the same time.
        order = lengths.argsort(kind="stable")
        symbols = expand(order, symbols, lengths.cumsum() - lengths, lengths)
        lengths = lengths[order]
        stops = lengths.cumsum()
        bounds = np.searchsorted(stops, np.arange(_BATCH, stops[-1], _BATCH)).tolist()
        num_short = int(np.searchsorted(lengths, _LONG))
        ids: list[IntArray] = []
        counts: list[IntArray] = []
        for start, stop in pairwise(sorted({0, num_short, *(bound for bound in bounds if bound < num_short)})):
            here = symbols[stops[start] - lengths[start] : stops[stop - 1]]
            merged = self._merge(lay_out(here, lengths[start:stop]))
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
        if self._lacks_bytes and symbols.min(initial=0) == GONE:
            byte = data[int(symbols.argmin())]
            raise TokenizerError(
                f"Text must be made of bytes that the vocabulary holds, but byte 0x{byte:02x} of {data[:40]!r} is not in it; "
                "the file that was loaded lacks it."
            )
        return symbols

    def _spell(self, points: Points) -> tuple[IntArray, IntArray]:
        """Return what becomes of characters on their own, as far as that is certain, and how many symbols each is."""
        present = np.zeros(_NUM_POINTS, dtype=np.bool_)
        present[points] = True
        distinct = present.nonzero()[0]
        characters = [chr(point).encode() for point in distinct.tolist()]
        lengths = np.fromiter(map(len, characters), np.int64, len(characters))
        symbols = self._symbols(b"".join(characters))
        if distinct[-1] >= 0x80:
            symbols, lengths = self._merge(lay_out(symbols, lengths), self._certain)
        starts, counts = np.zeros((2, _NUM_POINTS), dtype=np.int64)
        starts[distinct], counts[distinct] = lengths.cumsum() - lengths, lengths
        return expand(points, symbols, starts, counts), counts[points]

    def _merge(self, words: FlatWords, allowed: NDArray[np.bool_] | None = None) -> tuple[IntArray, IntArray]:
        """Merge each word as far as it goes, or up to the first merge that is not allowed.

        Notes
        -----
        Each place holds one integer: the rank of the pair that begins there, then the place itself, so that the smallest of
        a word is its next merge. Words without a next merge are left out once they are the most.
        """
        symbols, following, preceding = words.symbols, words.following, words.preceding
        starts, sizes = words.starts, words.sizes
        if symbols.max() < 256:
            ranks = self._low_ranks[symbols[:-1], symbols[1:]]
        else:
            ranks = self._rank_table.find(pair_key(symbols[:-1], symbols[1:]))
        best = ranks << 32 | np.arange(len(ranks))  # (P - 1,)
        shift = np.zeros_like(starts)  # from a place in `best` to its place in `symbols`
        while True:
            smallest = np.minimum.reduceat(best, starts)
            go_on = smallest < _NEVER << 32
            if allowed is not None:
                go_on[go_on] = allowed[smallest[go_on] >> 32]
            unfinished = go_on.nonzero()[0]
            if not len(unfinished):
                break
            smallest = smallest[unfinished]
            if 2 * len(unfinished) < len(starts):
                best = best[np.repeat(go_on, sizes)]
                sizes, shift = sizes[unfinished], (starts + shift)[unfinished]
                starts = sizes.cumsum() - sizes
                shift -= starts
                unfinished = np.arange(len(starts))
            places = smallest & _LOW
            seconds, lefts = following[places], preceding[places]
            rights = following[seconds]
            products = self._products[smallest >> 32]
            symbols[places] = products
            symbols[seconds] = GONE
            following[places] = rights
            preceding[rights] = places
            changed = np.concatenate((lefts, places))
            keys = np.concatenate((pair_key(symbols[lefts], products), pair_key(products, symbols[rights])))
            shifts = shift[unfinished]
            best[seconds - shifts] = _NEVER << 32
            best[changed - np.concatenate((shifts, shifts))] = self._rank_table.find(keys) << 32 | changed
        alive = symbols != GONE  # (P,)
        return symbols[alive], np.add.reduceat(alive, words.starts, dtype=np.int64)

    @functools.cached_property
    def _certain(self) -> NDArray[np.bool_]:
        """The merges within one character that happen whatever stands around it, shape (M,).

        A merge crosses if a character ends within its product. If no crossing merge of lower rank takes either part of a pair
        within a character, nothing outside can come first; what happens inside is the same alone as in a word. To do it before
        all else then changes nothing, provided that what it makes is only taken by merges of higher rank, as in every vocabulary
        that was learned; in one that was not, none is certain.
        """
        lefts, rights = self._pairs.T  # (M,)
        ranks = np.arange(len(self._pairs))
        num_ids = int(max(self._byte_ids.max(), self._pairs.max(initial=0), self._products.max(initial=0))) + 1
        made = np.full(num_ids, -1)
        made[self._products] = ranks  # the last one that makes it
        if (made[lefts] >= ranks).any() or (made[rights] >= ranks).any():
            return np.zeros(len(ranks), dtype=np.bool_)
        begins, crosses = [False] * num_ids, [False] * num_ids  # with a character; over the end of one
        for byte, id in enumerate(self._byte_ids.tolist()):
            begins[id] = not 0x80 <= byte < 0xC0
        for (left, right), product in zip(self._pairs.tolist(), self._products.tolist()):
            begins[product] = begins[left]
            crosses[product] = crosses[left] or begins[right] or crosses[right]
        crossing = np.array(crosses)[self._products]
        from_left, from_right = np.full(
            (2, num_ids), _NEVER
        )  # the lowest rank of a crossing merge that takes the symbol
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
        """The rank of each pair of ids below 256, shape (257, 257); `GONE` is the last row and column."""
        ids = np.append(np.arange(256), GONE)
        return self._rank_table.find(pair_key(ids[:, None], ids).ravel()).reshape(257, 257)

    @functools.cached_property
    def _rank_table(self) -> IntegerTable:
        table = IntegerTable(default=_NEVER)
        table.add(self._keys, np.arange(len(self._keys)))
        return table
