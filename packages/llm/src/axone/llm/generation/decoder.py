"""A model read without a tape, in as few calls and with as many threads as pay.

The layers of `axone.nn` define a model, and tests hold this to them. What they compute is written a second time, in
`steps`, because generation has other limits than training:

- One position of one sequence reads every weight once and computes next to nothing, so memory sets the pace [1]_: each
  product is one call of BLAS on the weight as it lies, with the threads of BLAS, which wait for the next one awake. In
  a small model, whose weights lie in the caches, the calls of NumPy themselves set the pace: hence one thread, vectors
  instead of matrices of one row, and no more calls than needed.
- Many positions are large products. Each thread takes a run of positions through all blocks, and needs of those before
  only their keys and values.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference", https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from threading import Barrier, BrokenBarrierError

import numpy as np

from axone.autograd.extend import Array
from axone.llm.generation.folding import Folds, folded
from axone.llm.generation.steps import Ids, Place, attention, mlp, norm, product
from axone.llm.runtime import resources
from axone.llm.runtime.settings import blas_threads
from axone.llm.runtime.threads import ThreadGroup
from axone.nn import KVCache, Transformer

_ONE_THREAD = 460_800  # weights: OpenBLAS multiplies a smaller matrix and a vector in one thread, and need not be told
_RUN = 32  # positions: fewer do not repay their hand-over to a thread


class Reader:
    """Reads tokens into caches, and returns what may come next; for one thread at a time.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. Its weights are read, or copied if it lies in the caches (see `fold`), as they are now.
    embedding : ndarray, shape (V, C)
    head : ndarray, shape (V, C)
    cores : int, optional
        How many threads work, by default one for each core, or a single one if the model lies in the caches.
    folds : Folds, optional
        What the last reader of this model made of its weights.

    Attributes
    ----------
    cores : int
    """

    def __init__(
        self,
        transformer: Transformer,
        embedding: Array,
        head: Array,
        *,
        cores: int | None = None,
        folds: Folds | None = None,
    ) -> None:
        head_bias, sizes = None, [head.size, *(parameter.size for parameter in transformer.parameters())]
        if cores is None:
            cores = 1 if sum(sizes) <= resources.SMALL_MODEL else resources.available_cores()
            if sum(sizes) <= resources.SMALL_MODEL:
                transformer, embedding, head, head_bias = folded(transformer, embedding, head, folds)
        self.cores = cores
        self._threads_fit = cores > 1 or max(sizes) < _ONE_THREAD  # whether BLAS, as it is set, suits a single vector
        self._embedding = embedding
        self._learned = None if transformer.position is None else transformer.position.weight.data
        self._blocks = [
            (norm(block.attention_norm), attention(block.attention), norm(block.mlp_norm), mlp(block.mlp))
            for block in transformer.blocks
        ]
        self._norm = norm(transformer.norm)
        self._head = product(head, head_bias)

    def __call__(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None) -> Array:
        """Read some more tokens of each sequence.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache
            One for each block: hold the columns before, and take in these.
        starts : ndarray of int, shape (B,), optional
            The column where each sequence begins, by default the first: what stands before is not seen.

        Returns
        -------
        ndarray, shape (B, V)
            The logits after the last token of each.
        """
        B, T = ids.shape
        if B * T == 1 and starts is None and self._threads_fit:
            return self._read_one(int(ids[0, 0]), caches)
        runs = min(self.cores, T // _RUN)
        with blas_threads(1 if self.cores == 1 else None):
            last = self._in_runs(ids, caches, starts, runs) if runs > 1 else self._read(ids, caches, starts)
            return self._head(self._norm(last[0] if B == 1 else last)).reshape(B, -1)

    def _read_one(self, token: int, caches: Sequence[KVCache]) -> Array:
        """Read one token of one sequence, by itself."""
        position = caches[0].length
        x: Array = self._embedding[token]  # (C,)
        x = x.copy() if self._learned is None else x + self._learned[position]
        place = _place_of_one(position)
        for (attention_norm, attend, mlp_norm, feed), cache in zip(self._blocks, caches, strict=True):
            x += attend(attention_norm(x), cache, place)
            x += feed(mlp_norm(x))
        return self._head(self._norm(x))[None]

    def _read(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None) -> Array:
        """Take some positions through all blocks, and return what becomes of the last of each sequence: (B, C)."""
        B, T = ids.shape
        first = caches[0].length
        positions, mask = np.arange(first, first + T), None
        if starts is not None:
            positions = np.maximum(positions - starts[:, None], 0)  # (B, T)
            mask = np.arange(first + T) >= starts[:, None]  # (B, S)
        place = Place(B, positions, mask)
        x: Array = self._embedding.take(ids, axis=0)  # (B, T, C)
        if self._learned is not None:
            x += self._learned.take(positions, axis=0)
        x = x.reshape(-1) if B * T == 1 else x.reshape(B * T, -1)  # (C,) or (N, C)
        for (attention_norm, attend, mlp_norm, feed), cache in zip(self._blocks, caches, strict=True):
            normed = attention_norm(x)
            if cache is caches[-1] and T > 1:  # from here on only the last position of each is still needed
                place, x = place._replace(ends=True), x.reshape(B, T, -1)[:, -1]  # (B, C)
            x += attend(normed, cache, place)
            x += feed(mlp_norm(x))
        return x.reshape(B, -1)

    def _in_runs(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None, runs: int) -> Array:
        """Share out the positions among threads, each run following the one before."""
        T = ids.shape[1]
        barrier = Barrier(runs)

        def read(start: int, stop: int) -> Array:
            shares = [_Share(cache, start, barrier) for cache in caches]
            try:
                return self._read(ids[:, start:stop], shares, starts)
            except BrokenBarrierError:  # another run has failed, and says why
                return np.empty(0)
            except BaseException:
                barrier.abort()
                raise

        cuts = [T * run // runs for run in range(runs + 1)]
        with blas_threads(1), ThreadGroup(runs) as group:
            last = group.run([functools.partial(read, start, stop) for start, stop in pairwise(cuts)])[-1]
        for cache in caches:
            cache.length += T
        return last


@functools.lru_cache(maxsize=1 << 12)
def _place_of_one(position: int) -> Place:
    """Return the place of a single row: to look it up takes a tenth of the time of making it."""
    return Place(1, np.asarray([position]), None)


class _Share(KVCache):
    """A thread's part of a cache: it writes from `start` on, and reads when all have written.

    Parameters
    ----------
    whole : KVCache
    start : int
        Counted from the first new position.
    barrier : Barrier
        For all that write.
    """

    def __init__(self, whole: KVCache, start: int, barrier: Barrier) -> None:
        self._keys, self._values = whole._keys, whole._values
        self.length = whole.length + start
        self._barrier = barrier

    def append(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Write these positions, wait for those before, and return all up to these."""
        held = super().append(keys, values)
        self._barrier.wait()
        return held
