"""Training of BPE merges from word counts.

Byte pair encoding merges the most frequent pair of adjacent tokens at all its positions, and repeats. A loop over
words in Python is slow, and counting all pairs again after every merge is quadratic. Here all words are one array,
and a merge changes only the positions of its pair, all of them in a few NumPy calls:

- Every pair that a merge creates contains its new token, so all positions of the pair exist once the merge is done;
  later merges can only remove some. The new pairs are grouped once, by a sort, and kept as a `_Run`: most frequent
  first.
- A heap holds the first pair of each run. The pair at the top was counted when it was created and may have lost
  positions since: it is counted again, and pushed back if it is no longer the most frequent.
- So only the pairs that reach the top are counted again, a few per merge.

The input is counts and the output is pairs of ids; text is not handled here.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
.. [2] A. Karpathy, minbpe (the plain form, with which the tests compare this one), https://github.com/karpathy/minbpe
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

import numpy as np

from axone.tokenizer.bpe.flat_words import REMOVED, FlatWords, IntArray, flatten_words, pair_key

NUM_BYTES = 256
_RIGHT = (1 << 32) - 1  # the right id of a key
_ZERO = np.zeros(1, dtype=np.int64)


class _Run(NamedTuple):
    """Pairs that one merge created, G of them, with their positions at that time."""

    order: IntArray  # (G,) the pairs, most frequent first, then smallest pair first
    weights: IntArray  # (G,) minus the number of occurrences
    keys: IntArray  # (G,) ascending
    starts: IntArray  # (G,) the start of each pair's positions
    positions: IntArray

    def entry(self, rank: int) -> tuple[int, int, "_Run", int]:
        """Return the heap entry of the pair at a rank: entries sort by weight, then by key, which is unique."""
        pair = self.order.item(rank)
        return self.weights.item(pair), self.keys.item(pair), self, rank

    def positions_of(self, rank: int) -> IntArray:
        """Return the positions of the pair at a rank when the run was created."""
        pair = self.order.item(rank)
        stop = self.starts.item(pair + 1) if pair + 1 < len(self.starts) else None
        return self.positions[self.starts.item(pair) : stop]


def train_merges(
    words: Sequence[bytes], counts: IntArray, num_merges: int, progress: Callable[[int, int], object] | None = None
) -> list[tuple[int, int]]:
    """Train merges from word counts.

    Parameters
    ----------
    words : sequence of bytes
        N distinct words; merges do not cross them.
    counts : ndarray of int64, shape (N,)
        The number of occurrences of each word.
    num_merges : int
        The number of merges. Fewer are returned when every word has become one token.
    progress : callable, optional
        Called after every 64 merges and at the end with the number of merges and `num_merges`.

    Returns
    -------
    list of (int, int)
        Pairs of ids: the bytes are 0 to 255, merge `i` creates ``256 + i``. Of equally frequent pairs the smallest is
        first.
    """
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    symbols = np.frombuffer(b"".join(words), dtype=np.uint8).astype(np.int64)
    merger = _Merger(flatten_words(symbols, lengths), counts)
    heap: list[tuple[int, int, _Run | IntArray, int]] = []
    if len(pairs := (merger.keys >= 0).nonzero()[0]):
        heap.append(merger.run(pairs[merger.keys[pairs].argsort(kind="stable")]).entry(0))
    merges: list[tuple[int, int]] = []
    while heap and len(merges) < num_merges:
        weight, key, run, rank = heap[0]
        if isinstance(run, _Run):
            positions = run.positions_of(rank)
            if rank + 1 < len(run.order):
                heapreplace(heap, run.entry(rank + 1))
            else:
                heappop(heap)
        else:
            positions = run
            heappop(heap)
        remaining = positions[merger.keys[positions] == key]
        if len(remaining) < len(positions):
            current = int(merger.weights[remaining].sum())
            if current > weight:  # it has lost positions: push it back unless none is left
                if current:
                    heappush(heap, (current, key, remaining, 0))
                continue
        created = merger.merge(key, remaining, NUM_BYTES + len(merges))
        merges.append((key >> 32, key & _RIGHT))
        if len(created):
            heappush(heap, merger.run(created).entry(0))
        if progress is not None and len(merges) % 64 == 0:
            progress(len(merges), num_merges)
    if progress is not None:
        progress(len(merges), num_merges)
    return merges


class _Merger:
    """All words with their weights, and the key of the pair that begins at each position."""

    def __init__(self, words: FlatWords, counts: IntArray) -> None:
        self._symbols, self._following, self._preceding = words.symbols, words.following, words.preceding
        self.weights = np.append(np.repeat(-counts, words.sizes), 0)  # (P,) negative: a heap pops the smallest first
        self.keys = np.append(
            pair_key(self._symbols[:-1], self._symbols[1:]), REMOVED
        )  # (P,) negative: no pair begins here

    def run(self, positions: IntArray) -> _Run:
        """Group positions, which are sorted by key, into a run."""
        keys = self.keys[positions]
        starts = (keys[1:] != keys[:-1]).nonzero()[0]
        starts += 1
        starts = np.concatenate((_ZERO, starts))
        weights = np.add.reduceat(self.weights[positions], starts)
        return _Run(weights.argsort(kind="stable"), weights, keys[starts], starts, positions)

    def merge(self, key: int, positions: IntArray, token: int) -> IntArray:
        """Replace a pair by a token at all its positions; return the positions of the new pairs, sorted by key."""
        if key >> 32 == key & _RIGHT:
            positions = self._without_overlaps(positions)
        seconds = self._following[positions]
        lefts = self._preceding[positions]
        rights = self._following[seconds]
        self._symbols[positions] = token
        self._symbols[seconds] = REMOVED
        self._following[positions] = rights
        self._preceding[rights] = positions
        self.keys[seconds] = REMOVED
        # If two positions are adjacent, the left neighbour of the second is the removed half of the first: its key is
        # negative, as for a separator, and the new pair is counted once, as the right one of the first.
        self.keys[lefts] = left_keys = self._symbols[lefts] << 32 | token
        self.keys[positions] = right_keys = self._symbols[rights] | token << 32
        keys = np.concatenate((left_keys, right_keys))
        order = keys.argsort()
        order = order[keys[order].searchsorted(0) :]
        return np.concatenate((lefts, positions))[order]

    def _without_overlaps(self, positions: IntArray) -> IntArray:
        """Keep every second position of a pair of equal tokens in each run of overlaps: "aaa" holds one "aa"."""
        positions = np.sort(positions)
        index = np.arange(len(positions))
        touches = np.zeros(len(positions), dtype=np.bool_)
        touches[1:] = self._following[positions[:-1]] == positions[1:]
        first: IntArray = np.maximum.accumulate(np.where(touches, 0, index))
        kept: IntArray = positions[(index - first) % 2 == 0]
        return kept
