"""Reading several sequences at once, each token once: what generation does with a model before it chooses.

Sequences of different length stand in one batch with their ends aligned: what is missing before the shorter ones is
masked, and every token keeps its own position. A sequence that fills the context goes on from its last half, which is
read again; so each gets the logits that it would get alone.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference" (the key-value cache),
   https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from axone.llm.config import LanguageModelConfig
from axone.llm.generation.cache import SequenceCache
from axone.llm.generation.joint import JointReader

Ids = NDArray[np.integer[Any]]
Logits = NDArray[np.floating[Any]]


class CachedModel(Protocol):
    """What generation needs of a model."""

    @property
    def config(self) -> LanguageModelConfig:
        """Its configuration."""

    def make_caches(self, batch: int, length: int | None = None) -> list[SequenceCache]:
        """Return empty caches."""

    def reader(self) -> JointReader:
        """Return what reads tokens into such caches."""


class BatchReader:
    """Sequences that grow by a token at a time, and the logits that follow each.

    As a context manager it reads with the help of other processes, where that pays.

    Parameters
    ----------
    model : CachedModel
    prompts : sequence of sequence of int
        The B sequences to begin with; only the last `context_length` tokens of each are read.

    Attributes
    ----------
    sequences : list of list of int
        With all that was appended.

    Raises
    ------
    ValueError
        If a prompt is empty or holds an unknown id.
    """

    def __init__(self, model: CachedModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._read = model.reader()
        self._length = model.config.context_length
        self._half = max(self._length // 2, 1)
        self.sequences = [_checked(prompt, model.config.vocab_size) for prompt in prompts]
        # Alone, a sequence starts at the first column again when it is full; in company others are not full yet.
        room = self._length if len(prompts) == 1 else 2 * self._length
        self._caches = model.make_caches(len(prompts), room)
        self._starts = [0] * len(prompts)  # the column where each begins

    def __enter__(self) -> Self:
        self._read.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._read.__exit__(kind, error, trace)

    def logits(self) -> Logits:
        """Read what has not been read yet.

        Returns
        -------
        ndarray, shape (B, V)
            After the last token of each sequence.
        """
        held = self._caches[0].length
        if held == 0:
            return self._read_ends(self._length)
        if held - min(self._starts) < self._length and held < self._caches[0].max_length:  # as nearly always
            return self._read_last()
        full = [row for row, start in enumerate(self._starts) if held - start >= self._length]
        if len(full) == len(self.sequences):
            return self._read_ends(self._half)
        if held == self._caches[0].max_length:
            self._forget_unused()
        if full:
            self._halve(full)
        return self._read_last()

    def append(self, tokens: Sequence[int]) -> None:
        """Add a token to each sequence."""
        for sequence, token in zip(self.sequences, tokens):
            sequence.append(token)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only some of the sequences, in the order given."""
        self.sequences = [self.sequences[row] for row in rows]
        self._starts = [self._starts[row] for row in rows]
        for cache in self._caches:
            cache.keep(np.asarray(rows, np.intp))

    def _read_ends(self, most: int) -> Logits:
        """Read the last tokens of all sequences into empty caches, aligned at their ends."""
        for cache in self._caches:
            cache.length = 0
        ends = [sequence[-most:] for sequence in self.sequences]
        width = max(map(len, ends))
        self._starts = [width - len(end) for end in ends]
        padded = np.asarray([[0] * (width - len(end)) + end for end in ends])  # (B, T)
        return self._read(padded, self._caches, self._hidden())

    def _read_last(self) -> Logits:
        """Read the last token of all sequences."""
        last = np.array([[sequence[-1]] for sequence in self.sequences])  # (B, 1)
        return self._read(last, self._caches, self._hidden())

    def _hidden(self) -> Ids | None:
        """Return where the sequences begin, if any column is to be hidden from one."""
        return np.asarray(self._starts) if any(self._starts) else None

    def _halve(self, rows: Sequence[int]) -> None:
        """Let some sequences go on from their last half: read again all of it but the token that comes next."""
        begin = self._caches[0].length - self._half + 1
        if self._half > 1:
            ends = np.asarray([self.sequences[row][-self._half : -1] for row in rows])  # (N, half - 1)
            caches = self._model.make_caches(len(rows), self._half - 1)
            self._read(ends, caches)
            for cache, other in zip(self._caches, caches):
                cache.replace_last(np.asarray(rows, np.intp), other)
        for row in rows:
            self._starts[row] = begin

    def _forget_unused(self) -> None:
        """Make room by dropping the columns before all sequences."""
        unused = min(self._starts)
        self._starts = [start - unused for start in self._starts]
        for cache in self._caches:
            cache.forget_first(unused)


def _checked(prompt: Sequence[int], vocab_size: int) -> list[int]:
    """Return a prompt as a list of its own."""
    try:
        ids = [index(id) for id in prompt]
    except TypeError:
        raise TypeError(
            f"a prompt is a sequence of token ids, whole numbers, and this one is {prompt!r:.60}: encode text first"
        ) from None
    if not ids:
        raise ValueError("generation goes on from a prompt of at least one token, and this one is empty")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(
            f"a prompt's ids must be from 0 to {vocab_size - 1}, and these go from {min(ids)} to {max(ids)}"
        )
    return ids
