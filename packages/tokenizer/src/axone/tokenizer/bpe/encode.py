"""Applying merges: words in, token ids out, exactly as if the best merge were looked for anew after each one.

Two forms of the same rule, "join the pair of lowest rank, the leftmost of equals, until no pair can be joined":

- `PairMerger.merge_word` takes one word of any length, in time ``n log n``: a heap of candidates over a linked list.
- `PairMerger.merge_words` takes many words at once: each round joins one pair in every word that still has one, in a few calls
  of NumPy. It is what makes a long text fast, whose new words come by the ten thousand; a single long word would need as many
  rounds as it has merges.

Beyond ASCII a character is two to four bytes, which most vocabularies join first. So many words begin not as bytes but as what becomes
of each of their characters alone, found once for each character, and only as far as nothing around it can change that: see `_certain`.

It knows nothing of patterns and special tokens.

Sources: A. Karpathy, *minbpe*, https://github.com/karpathy/minbpe, and tiktoken, https://github.com/openai/tiktoken, for the
rule; The Unicode Standard, chapter 3.9, https://www.unicode.org/versions/latest/core-spec/, for UTF-8.
"""

import functools
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat import GONE, FlatWords, IntArray, expand, lay_out, pair_key
from axone.tokenizer.bpe.ranks import NEVER, RankTable

_LONG = 256  # characters: a longer word is merged alone
_FEW = 256  # characters: fewer are merged word by word
_BATCH = 1 << 17  # characters that are merged at once: what the processor's cache holds
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

    def encode(self, words: Sequence[str]) -> list[bytes]:
        """Return the token ids of each word as the bytes of an int32 array: small, and quick to join.

        It is fastest when words of about one length are neighbours: they are done at about the same time.
        """
        encoded: list[bytes] = []
        for batch in _batches(words):
            if sum(map(len, batch)) <= _FEW or len(batch[0]) > _LONG:
                encoded += [np.array(self.merge_word(word.encode()), dtype=np.int32).tobytes() for word in batch]
            else:
                ids, counts = self.merge_words(batch)
                joined = ids.astype(np.int32).tobytes()
                encoded += [joined[start:stop] for start, stop in pairwise([0, *(4 * counts.cumsum()).tolist()])]
        return encoded

    def merge_word(self, word: bytes) -> list[int]:
        """Return the token ids of one word.

        Notes
        -----
        A candidate in the heap is outdated when its pair has changed since. Tokens are only ever joined, so the rank that a
        place has now tells.
        """
        ranks, products = self._scalar_tables
        ids: list[int] = self._byte_ids[np.frombuffer(word, dtype=np.uint8)].tolist()
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

    def merge_words(self, words: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Return the token ids of many words, none of them empty.

        Returns
        -------
        ids : IntArray, shape (T,)
            Those of all words, one word after another.
        counts : IntArray, shape (N,)
            How many each word has.
        """
        text = "".join(words)
        lengths = np.fromiter(map(len, words), np.int64, len(words))  # (N,) characters
        if text.isascii():
            symbols = self._byte_ids[np.frombuffer(text.encode(), dtype=np.uint8)]
        else:
            symbols, counts = self._spell(np.frombuffer(text.encode("utf-32-le"), dtype="<u4"))
            lengths = np.add.reduceat(counts, lengths.cumsum() - lengths)  # (N,) symbols
        return self._merge(lay_out(symbols, lengths))

    def _spell(self, points: NDArray[np.uint32]) -> tuple[IntArray, IntArray]:
        """Return what becomes of characters on their own, as far as that is certain, and how many symbols each is."""
        present = np.zeros(_NUM_POINTS, dtype=np.bool_)
        present[points] = True
        distinct = present.nonzero()[0]
        characters = list(map(chr, distinct.tolist()))
        lengths = np.fromiter((len(character.encode()) for character in characters), np.int64, len(characters))
        symbols = self._byte_ids[np.frombuffer("".join(characters).encode(), dtype=np.uint8)]
        spelled, sizes = self._merge(lay_out(symbols, lengths), self._certain)
        starts, counts = np.zeros((2, _NUM_POINTS), dtype=np.int64)
        starts[distinct], counts[distinct] = sizes.cumsum() - sizes, sizes
        return expand(points, spelled, starts, counts), counts[points]

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
            go_on = smallest < NEVER << 32
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
            best[seconds - shifts] = NEVER << 32
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
            (2, num_ids), NEVER
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
    def _rank_table(self) -> RankTable:
        return RankTable(self._keys)


def _batches(words: Sequence[str]) -> Iterator[list[str]]:
    """Cut words into batches; a long word is one alone."""
    batch: list[str] = []
    size = 0
    for word in words:
        if batch and (size + len(word) > _BATCH or max(len(word), len(batch[0])) > _LONG):
            yield batch
            batch, size = [], 0
        batch.append(word)
        size += len(word)
    if batch:
        yield batch
