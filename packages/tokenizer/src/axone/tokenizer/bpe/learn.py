"""Learning merges: which pairs of tokens to join, given how often each word occurs.

Byte pair encoding joins the most frequent pair of neighbouring tokens, everywhere at once, and repeats. Done word by word in
Python this is slow, and done anew after every merge it is quadratic. Here the words lie in one array, and a merge touches only
the places where its pair stands, all of them in a few calls of NumPy:

- The pairs that a merge creates all contain its new token, so they are complete once it is done: from then on each can only
  lose places, to later merges. They are grouped once, by a sort, and kept as a `_Run`: most frequent first.
- A heap holds the head of each run. The pair on top was counted when it was created and may have lost places since: it is counted
  again, and goes back into the heap if it is no longer the first.
- So work is done for pairs that reach the top, a few for each merge, and none for the many that never do.

It knows nothing of text: counts come in, pairs of ids come out.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
.. [2] A. Karpathy, minbpe (the plain form, which the tests hold this one equal to), https://github.com/karpathy/minbpe
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

import numpy as np

from axone.tokenizer.bpe.flat import GONE, FlatWords, IntArray, lay_out, pair_key

NUM_BYTES = 256
_RIGHT = (1 << 32) - 1  # the right id of a key
_ZERO = np.zeros(1, dtype=np.int64)


class _Run(NamedTuple):
    """Pairs that one merge created, G of them, with the places where they stood then."""

    order: IntArray  # (G,) the groups, most frequent first, then smallest pair first
    weights: IntArray  # (G,) minus the number of occurrences
    keys: IntArray  # (G,) ascending
    starts: IntArray  # (G,) of each group's places
    places: IntArray

    def entry(self, rank: int) -> tuple[int, int, "_Run", int]:
        """Return what the heap holds for the pair of a rank: it sorts by weight, then by key, which is unique."""
        group = self.order.item(rank)
        return self.weights.item(group), self.keys.item(group), self, rank

    def places_of(self, rank: int) -> IntArray:
        """Return where the pair of a rank stood when the run was made."""
        group = self.order.item(rank)
        stop = self.starts.item(group + 1) if group + 1 < len(self.starts) else None
        return self.places[self.starts.item(group) : stop]


def learn_merges(
    words: Sequence[bytes], counts: IntArray, num_merges: int, progress: Callable[[int, int], object] | None = None
) -> list[tuple[int, int]]:
    """Learn merges from counted words.

    Parameters
    ----------
    words : Sequence[bytes]
        N different words; merges do not cross them.
    counts : IntArray, shape (N,)
        How often each occurs.
    num_merges : int
        How many to learn. Fewer are returned when every word has become one token.
    progress : Callable[[int, int], object], optional
        Called with the number of merges learned and `num_merges`, now and then and at the end.

    Returns
    -------
    list[tuple[int, int]]
        The pairs of ids: the bytes are 0 to 255, merge `i` makes ``256 + i``. Of equally frequent pairs the smallest is first.
    """
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    symbols = np.frombuffer(b"".join(words), dtype=np.uint8).astype(np.int64)
    merger = _Merger(lay_out(symbols, lengths), counts)
    heap: list[tuple[int, int, _Run | IntArray, int]] = []
    if len(pairs := (merger.keys >= 0).nonzero()[0]):
        heap.append(merger.run(pairs[merger.keys[pairs].argsort(kind="stable")]).entry(0))
    merges: list[tuple[int, int]] = []
    while heap and len(merges) < num_merges:
        weight, key, run, rank = heap[0]
        if isinstance(run, _Run):
            places = run.places_of(rank)
            if rank + 1 < len(run.order):
                heapreplace(heap, run.entry(rank + 1))
            else:
                heappop(heap)
        else:
            places = run
            heappop(heap)
        remaining = places[merger.keys[places] == key]
        if len(remaining) < len(places):
            current = int(merger.weights[remaining].sum())
            if current > weight:  # it has become rarer: back into the heap, unless it is gone
                if current:
                    heappush(heap, (current, key, remaining, 0))
                continue
        made = merger.merge(key, remaining, NUM_BYTES + len(merges))
        merges.append((key >> 32, key & _RIGHT))
        if len(made):
            heappush(heap, merger.run(made).entry(0))
        if progress is not None and len(merges) % 64 == 0:
            progress(len(merges), num_merges)
    if progress is not None:
        progress(len(merges), num_merges)
    return merges


class _Merger:
    """All words with their weights, and the key of the pair that begins at each place."""

    def __init__(self, words: FlatWords, counts: IntArray) -> None:
        self._symbols, self._following, self._preceding = words.symbols, words.following, words.preceding
        self.weights = np.append(np.repeat(-counts, words.sizes), 0)  # (P,) negative: the heap takes the smallest first
        self.keys = np.append(
            pair_key(self._symbols[:-1], self._symbols[1:]), GONE
        )  # (P,) negative: no pair begins here

    def run(self, places: IntArray) -> _Run:
        """Group places, which are sorted by key, into a run."""
        keys = self.keys[places]
        starts = (keys[1:] != keys[:-1]).nonzero()[0]
        starts += 1
        starts = np.concatenate((_ZERO, starts))
        weights = np.add.reduceat(self.weights[places], starts)
        return _Run(weights.argsort(kind="stable"), weights, keys[starts], starts, places)

    def merge(self, key: int, places: IntArray, token: int) -> IntArray:
        """Put a token at all places of a pair, and return the places of the pairs that this makes, sorted by key."""
        if key >> 32 == key & _RIGHT:
            places = self._without_overlaps(places)
        seconds = self._following[places]
        lefts = self._preceding[places]
        rights = self._following[seconds]
        self._symbols[places] = token
        self._symbols[seconds] = GONE
        self._following[places] = rights
        self._preceding[rights] = places
        self.keys[seconds] = GONE
        # Where two places touch, the left neighbour is the other place's gone half: its key comes out negative, as for
        # a separator, and the pair is counted once, as the right one of the other.
        self.keys[lefts] = left_keys = self._symbols[lefts] << 32 | token
        self.keys[places] = right_keys = self._symbols[rights] | token << 32
        keys = np.concatenate((left_keys, right_keys))
        order = keys.argsort()
        order = order[keys[order].searchsorted(0) :]
        return np.concatenate((lefts, places))[order]

    def _without_overlaps(self, places: IntArray) -> IntArray:
        """Keep every other place of a pair of equals in each run of touching ones, from the left: "aaa" holds one "aa"."""
        places = np.sort(places)
        index = np.arange(len(places))
        touches = np.zeros(len(places), dtype=np.bool_)
        touches[1:] = self._following[places[:-1]] == places[1:]
        first: IntArray = np.maximum.accumulate(np.where(touches, 0, index))
        kept: IntArray = places[(index - first) % 2 == 0]
        return kept
