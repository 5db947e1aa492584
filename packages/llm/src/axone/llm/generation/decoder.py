"""Decoder: reads tokens into KV caches and returns the logits of the next token, without a tape.

The layers state their arithmetic on arrays (`Module.inference`); the decoder chooses how their products are computed:

- A small model fits into the processor's caches, and a token costs as many calls of NumPy as it has operations. It is
  folded first, and computed by one thread.
- One position of a large model reads every weight once, so memory bounds the time. Forked processes read a shard of each
  weight (`tensor_parallel`), or each product is one call of BLAS, with the threads of BLAS. A few positions of one
  sequence, such as a draft to be verified, are read in the same way.
- Prefill, which reads many positions, is bounded by arithmetic. Each thread takes a run of positions through all
  blocks, and needs only the keys and values of earlier positions.

README.md in this folder has the figures.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from threading import Barrier, BrokenBarrierError
from types import TracebackType
from typing import Self

import numpy as np

from axone.autograd.extend import Array
from axone.llm.generation.folding import FoldCache, fold
from axone.llm.generation.padding import padded_context
from axone.llm.generation.sharding import can_shard, weight_shapes
from axone.llm.generation.tensor_parallel import MAX_POSITIONS, TensorParallelDecoder
from axone.llm.runtime import resources
from axone.llm.runtime.collectives import can_all_gather
from axone.llm.runtime.settings import blas_threads
from axone.llm.runtime.threads import ThreadGroup
from axone.llm.types import Ids, Logits
from axone.nn import KVCache, LayerNorm, NgramEmbedding, Transformer
from axone.nn.extend import Int8Weight, Weight, dense_product, single_position

_ONE_BLAS_THREAD_WEIGHTS = (
    460_800  # weights: OpenBLAS multiplies a smaller matrix and a vector in one thread without being told to
)
_RUN = 32  # positions: fewer do not repay their hand-over to a thread
_MOST_PROCESSES = 4  # a few cores use all the bandwidth of memory


class Decoder:
    """Reads tokens into KV caches and returns logits; for one thread at a time.

    As a context manager it may fork processes, which compute single positions of one sequence and end with the context.
    From the first of these positions on the weights must stay as they are. If a process is lost, this one continues
    alone, with the same bits.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. The weights of a small model are copied now; those of a large one may be written to later,
        but not replaced.
    embedding, head : ndarray or Int8Weight, shape (V, C)
    ngrams : NgramEmbedding, optional
        Its vectors are added to those of the embedding, and the last cache is its own.
    workers : int, optional
        The most threads or processes that compute at once, besides the threads of BLAS: by default one per core. A small
        model uses one in any case; 1 never forks.
    fold_cache : FoldCache, optional
        The folded weights of an earlier decoder of this model.

    Attributes
    ----------
    workers : int
    """

    def __init__(
        self,
        transformer: Transformer,
        embedding: Weight,
        head: Weight,
        *,
        ngrams: NgramEmbedding | None = None,
        workers: int | None = None,
        fold_cache: FoldCache | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers ({workers}) must be at least 1")
        self._model = transformer, embedding, head
        sizes = [head.size, *map(math.prod, weight_shapes(transformer))]
        self._small = False
        head_bias, centred, tables = None, False, [] if ngrams is None else [table.data for table in ngrams.tables]
        if (
            not isinstance(embedding, Int8Weight)
            and not isinstance(head, Int8Weight)
            and sum(sizes) <= resources.SMALL_MODEL
        ):
            self._small = True
            folded, embedding, head, head_bias = fold(transformer, embedding, head, fold_cache)
            centred = folded is not transformer and isinstance(transformer.norm, LayerNorm)  # as the embedding then is
            transformer, tables = folded, [table.copy() for table in tables]
        self._ngrams = None if ngrams is None else ngrams.lookup(tables, centred=centred)
        self.workers = 1 if self._small else resources.available_cores() if workers is None else workers
        self._needs_no_blas_limit = (
            not self._small or max(sizes) < _ONE_BLAS_THREAD_WEIGHTS
        )  # for the product of a matrix and a vector
        self._embedding = embedding
        self._forward = transformer.cached_inference()
        self._head = dense_product(head, head_bias)
        self._processes = min(self.workers, _MOST_PROCESSES)
        if self._processes > 1 and not can_shard(transformer):
            self._processes = 1
        self._entered = False
        self._parallel: TensorParallelDecoder | None = None
        self._forked_in = 0  # the id of the process that forked the others

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._end_processes()

    def __call__(
        self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None, *, last_only: bool = True
    ) -> Logits:
        """Read further tokens of each sequence.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache
            One for each block, and that of ids: they hold the earlier columns and receive these.
        starts : ndarray of int, shape (B,), optional
            The column where each sequence begins, by default the first: earlier ones are padding.
        last_only : bool, default True
            Whether only the logits after the last token are wanted.

        Returns
        -------
        ndarray, shape (B, V), or (B, T, V) without `last_only`
            The logits after the last token of each sequence, or after each token.

        Raises
        ------
        RuntimeError
            In a forked copy of the process that forked the workers.
        """
        B, T = ids.shape
        if B == 1 and starts is None and (T == 1 or (not last_only and T <= MAX_POSITIONS)):
            if self._uses_processes(caches, T):
                logits = self._decode_in_processes(ids[0].tolist(), T, caches)
                return logits if last_only else logits[None]
            if T == 1 and last_only and self._needs_no_blas_limit:
                x, context = self._embedding.take(ids[0, 0], axis=0), single_position(caches[0].length)  # (C,)
                if self._ngrams is not None:
                    x += self._ngrams(ids, caches[-1], context)[0]
                    caches = caches[:-1]
                return self._head(self._forward(x, caches, context))[None]
        if B > 1 and T == 1 and last_only and self._uses_processes(caches, 1):
            return self._decode_in_processes(ids[:, 0].tolist(), 1, caches, () if starts is None else starts.tolist())
        runs = min(self.workers, T // _RUN) if last_only else 1
        with blas_threads(1 if self._small else None):
            if runs > 1:
                x = self._prefill_in_threads(ids, caches, starts, runs)
            else:
                x = self._read(ids, caches, starts, last_only=last_only)
            return self._head(x).reshape((B, -1) if last_only else (B, T, -1))

    def _read(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None, *, last_only: bool = True) -> Array:
        """Return the normalized stream after the last, or each, position of each sequence: rows, or (C,) if it is one."""
        B, T = ids.shape
        x: Array = self._embedding.take(ids.reshape(-1), axis=0)  # (N, C)
        context = padded_context(B, T, caches[0].length, starts, last_only=last_only and T > 1)
        if self._ngrams is not None:
            x += self._ngrams(ids, caches[-1], context)
            caches = caches[:-1]
        return self._forward(x[0] if B * T == 1 else x, caches, context)

    def _prefill_in_threads(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None, runs: int) -> Array:
        """Read a run of positions in each thread; all wait for each other at each block's cache."""
        T = ids.shape[1]
        barrier = Barrier(runs)
        for cache in caches:
            cache.reserve(cache.length + T)

        def read(start: int, stop: int) -> Array:
            views = [cache.view(start=start, after_write=barrier.wait) for cache in caches]
            try:
                return self._read(ids[:, start:stop], views, starts)
            except BrokenBarrierError:  # another run has failed, and raises its error
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

    def _uses_processes(self, caches: Sequence[KVCache], count: int) -> bool:
        """Return whether positions are read shard by shard: also by this process alone, once the others are lost."""
        if self._parallel is not None and self._parallel.holds(caches, count):
            if os.getpid() != self._forked_in:
                raise RuntimeError(
                    f"process {os.getpid()} is a forked copy of process {self._forked_in}, which alone can continue this text: "
                    "begin another text here"
                )
            return True
        return self._entered and self._processes > 1 and can_all_gather()

    def _decode_in_processes(
        self, tokens: list[int], count: int, caches: Sequence[KVCache], starts: Sequence[int] = ()
    ) -> Logits:
        """Read `count` tokens of each sequence in all processes."""
        position = caches[0].length
        try:
            logits = self._parallel_decoder(count, caches).decode(tokens, position, starts)
        except OSError:  # a process has ended, or could not be forked
            self._end_processes()
            self._processes = 1
            logits = self._parallel_decoder(count, caches).decode(tokens, position, starts)
        except BaseException:  # the ranks no longer agree on the next call
            self._end_processes()
            raise
        for cache in caches:
            cache.length = position + count
        return logits

    def _parallel_decoder(self, count: int, caches: Sequence[KVCache]) -> TensorParallelDecoder:
        """Return the decoder of all processes, a new one if the caches have changed."""
        if self._parallel is None or not self._parallel.holds(caches, count):
            self._end_processes()
            self._parallel = TensorParallelDecoder(*self._model, caches, self._processes, count, ngrams=self._ngrams)
            self._forked_in = os.getpid()
        return self._parallel

    def _end_processes(self) -> None:
        if self._parallel is not None:
            self._parallel.close()
            self._parallel = None
