"""Applying merges: words in, token ids out, exactly as if the best merge were looked for anew after each one.

Two forms of the same rule, "join the pair of lowest rank, the leftmost of equals, until no pair can be joined":

- `PairMerger.merge_word` takes one word of any length, in time ``n log n``: a heap of candidates over a linked list.
- `PairMerger.merge_words` takes many words at once: each round joins one pair in every word that still has one, in a few calls
  of NumPy. It is what makes a long text fast, whose new words come by the ten thousand; a single long word would need as many
  rounds as it has merges.

It knows nothing of text and patterns: bytes come in.

Sources: A. Karpathy, *minbpe*, https://github.com/karpathy/minbpe, and tiktoken, https://github.com/openai/tiktoken, for the
rule; D. Knuth, *The Art of Computer Programming*, volume 3, section 6.4, for hashing by multiplication.
"""

import functools
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np

from axone.tokenizer.bpe.flat import GONE, IntArray, lay_out, pair_key

_LONG = 256  # bytes: a longer word is merged alone
_BATCH = 1 << 17  # bytes
_FEW = 256  # bytes: fewer are merged word by word
_NEVER = 1 << 30  # the rank of a pair that no merge joins
_LOW = (1 << 32) - 1


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
        pairs = np.array(merges, dtype=np.int64).reshape(-1, 2)  # (M, 2)
        self._byte_ids = byte_ids
        self._keys = pair_key(pairs[:, 0], pairs[:, 1])  # (M,)
        self._products = np.array(products, dtype=np.int64)  # (M,)

    def encode(self, words: Sequence[bytes]) -> list[bytes]:
        """Return the token ids of each word as the bytes of an int32 array: small, and quick to join.

        It is fastest when words of about one length are neighbours: they are done at about the same time.
        """
        encoded: list[bytes] = []
        for batch in _batches(words):
            if sum(map(len, batch)) <= _FEW or len(batch[0]) > _LONG:
                encoded += [np.array(self.merge_word(word), dtype=np.int32).tobytes() for word in batch]
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

    def merge_words(self, words: Sequence[bytes]) -> tuple[IntArray, IntArray]:
        """Return the token ids of many words.

        Returns
        -------
        ids : IntArray, shape (T,)
            Those of all words, one word after another.
        counts : IntArray, shape (N,)
            How many each word has.

        Notes
        -----
        Each place holds one integer: the rank of the pair that begins there, then the place itself, so that the smallest of
        a word is its next merge. Words without a next merge are left out once they are the most.
        """
        flat = lay_out(words, self._byte_ids)
        symbols, following, preceding = flat.symbols, flat.following, flat.preceding
        starts, sizes = flat.starts, flat.sizes
        best = np.full(len(symbols), _NEVER, dtype=np.int64)  # (P,)
        best[flat.inside] = self._byte_pair_ranks[flat.bytes, np.roll(flat.bytes, -1)]
        best[starts + sizes - 1] = _NEVER  # the last byte of a word begins no pair
        best <<= 32
        best = (best | np.arange(len(best)))[:-1]  # (P - 1,) the words with the separator before each
        shift = np.zeros_like(starts)  # from a place in `best` to its place in `symbols`
        while True:
            smallest = np.minimum.reduceat(best, starts)
            unfinished = (smallest < _NEVER << 32).nonzero()[0]
            if not len(unfinished):
                break
            if 2 * len(unfinished) < len(starts):
                remain = np.zeros(len(starts), dtype=np.bool_)
                remain[unfinished] = True
                best = best[np.repeat(remain, sizes)]
                old, shift, sizes, smallest = (
                    starts[unfinished],
                    shift[unfinished],
                    sizes[unfinished],
                    smallest[unfinished],
                )
                starts = sizes.cumsum() - sizes
                shift += old - starts
                unfinished = np.arange(len(starts))
            smallest = smallest[unfinished]
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
        counts = np.add.reduceat(alive, flat.starts, dtype=np.int64)  # (N,)
        return symbols[alive], counts

    @functools.cached_property
    def _scalar_tables(self) -> tuple[dict[int, int], list[int]]:
        ranks = {key: rank for rank, key in enumerate(self._keys.tolist())}
        return ranks, self._products.tolist()

    @functools.cached_property
    def _byte_pair_ranks(self) -> IntArray:
        """The rank of each pair of bytes, shape (256, 256)."""
        return self._rank_table.find(pair_key(self._byte_ids[:, None], self._byte_ids).ravel()).reshape(256, 256)

    @functools.cached_property
    def _rank_table(self) -> "_RankTable":
        return _RankTable(self._keys)


def _batches(words: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut words into batches that the processor's cache holds; a long word is one alone."""
    batch: list[bytes] = []
    size = 0
    for word in words:
        if batch and (size + len(word) > _BATCH or max(len(word), len(batch[0])) > _LONG):
            yield batch
            batch, size = [], 0
        batch.append(word)
        size += len(word)
    if batch:
        yield batch


class _RankTable:
    """The rank of a pair by its key, for arrays of keys: a hash table of which each slot is one element of an array.

    Parameters
    ----------
    keys : IntArray, shape (M,)
        Their ranks are 0 to M - 1.
    """

    _EMPTY = np.int64(-(1 << 63))

    def __init__(self, keys: IntArray) -> None:
        bits = max(4, (4 * len(keys)).bit_length())  # at most a quarter of the slots is taken
        self._down = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._keys = np.full(1 << bits, self._EMPTY, dtype=np.int64)
        self._ranks = np.full(1 << bits, _NEVER, dtype=np.int64)
        todo, slots = np.arange(len(keys)), self._slots(keys)
        while len(todo):  # those whose slot is taken try the next one
            free = self._keys[slots] == self._EMPTY
            self._keys[slots[free]] = keys[todo[free]]
            placed = self._keys[slots] == keys[todo]
            self._ranks[slots[placed]] = todo[placed]
            todo, slots = todo[~placed], (slots[~placed] + 1) & self._last

    def find(self, keys: IntArray) -> IntArray:
        """Return the rank of each key, and `_NEVER` for unknown and for negative ones."""
        slots = self._slots(keys)
        held = self._keys[slots]
        ranks: IntArray = self._ranks[slots]
        other = held != keys
        ranks[other] = _NEVER
        todo = (other & (held != self._EMPTY)).nonzero()[0]
        slots = slots[todo]
        while len(todo):
            slots = (slots + 1) & self._last
            held = self._keys[slots]
            hit = held == keys[todo]
            ranks[todo[hit]] = self._ranks[slots[hit]]
            further = ~hit & (held != self._EMPTY)
            todo, slots = todo[further], slots[further]
        return ranks

    def _slots(self, keys: IntArray) -> IntArray:
        return (keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> self._down).view(np.int64)
