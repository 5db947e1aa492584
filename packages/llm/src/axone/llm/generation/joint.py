"""A reader that has help: for one position after the other of a large model it forks processes, and ends them again.

What each of them computes is said in `shares`; here is when there are any, and until when.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from axone.autograd.extend import Array
from axone.llm.generation.cache import SequenceCache
from axone.llm.generation.decoder import Reader
from axone.llm.generation.folding import Folds
from axone.llm.generation.known import is_known
from axone.llm.generation.steps import Ids
from axone.llm.generation.tensor_parallel import JointReading
from axone.llm.runtime.collectives import can_all_gather
from axone.llm.runtime.settings import CpuAffinity, blas_threads
from axone.nn import Transformer

_MOST = 4  # processes: a few cores use all that memory gives


class JointReader:
    """Reads tokens into caches as `Reader` does, and as a context manager with the help of processes that it forks.

    They help with single positions of one sequence, if the model is too large for the processor's caches and `can_all_gather`
    allows it. From the first of these positions on the weights must stay as they are. If a process is lost, this one
    goes on alone, with the same bits.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. Its arrays are looked up now: they may be written to later, but not replaced.
    embedding : ndarray, shape (V, C)
    head : ndarray, shape (V, C)
    processes : int, optional
        How many read at once, this one included; by default one for each core, or a single one if the model lies in
        the caches.
    folds : Folds, optional
        As in `Reader`.
    """

    def __init__(
        self,
        transformer: Transformer,
        embedding: Array,
        head: Array,
        *,
        processes: int | None = None,
        folds: Folds | None = None,
    ) -> None:
        self._model = transformer, embedding, head
        self._alone = Reader(transformer, embedding, head, folds=folds)
        self._processes = min(self._alone.cores, _MOST) if processes is None else processes
        if self._processes > 1 and not is_known(transformer):  # asked once, for it looks at every layer
            self._processes = 1
        self._entered = False
        self._joint: JointReading | None = None
        self._affinity = CpuAffinity(None)
        self._begun_in = 0  # the process that has forked the others

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._part()

    def __call__(self, ids: Ids, caches: Sequence[SequenceCache], starts: Ids | None = None) -> Array:
        """Read some more tokens of each sequence.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of SequenceCache
            One for each block: hold the columns before, and take in these.
        starts : ndarray of int, shape (B,), optional
            The column where each sequence begins, by default the first: what stands before is not seen.

        Returns
        -------
        ndarray, shape (B, V)
            The logits after the last token of each.

        Raises
        ------
        RuntimeError
            In a copy of the process that has begun to read with others.
        """
        if ids.size > 1 or starts is not None or not self._joins(caches):
            return self._alone(ids, caches, starts)
        token, position = int(ids[0, 0]), caches[0].length
        try:
            logits = self._read(token, position, caches)
        except OSError:  # a process has ended, or could not be forked
            self._part()
            self._processes = 1
            logits = self._read(token, position, caches)
        except BaseException:  # they no longer agree on what is next: others may be forked
            self._part()
            raise
        for cache in caches:
            cache.length = position + 1
        return logits[None]

    def _joins(self, caches: Sequence[SequenceCache]) -> bool:
        """Tell whether a position is to be read in shares: all by this process, once the others are lost."""
        if self._joint is not None and self._joint.holds(caches):
            if os.getpid() != self._begun_in:
                raise RuntimeError(
                    "a text is written to its end by the process that began it, and this is a copy of that process: "
                    "begin a text of its own here"
                )
            return True
        return self._entered and self._processes > 1 and can_all_gather()

    def _read(self, token: int, position: int, caches: Sequence[SequenceCache]) -> Array:
        """Return the logits after a token, (V,)."""
        if self._joint is None or not self._joint.holds(caches):
            self._part()
            self._joint = JointReading(*self._model, caches, self._processes)
            self._affinity = CpuAffinity(self._joint.cores)
            self._begun_in = os.getpid()
        with self._affinity, blas_threads(self._joint.blas_threads):
            return self._joint.read(token, position)

    def _part(self) -> None:
        """End the other processes, and restore the cores where an interrupt has kept `_read` from it."""
        self._affinity.restore()
        if self._joint is not None:
            self._joint.group.close()
            self._joint = None
