"""DecodingBatch: several sequences that grow by one token at a time, each token read once.

Sequences of different lengths are padded on the left: the padding is masked, and every token keeps its own position. A
sequence that fills the context continues from its last half, which is read again. So each sequence gets the logits that
it would get alone.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference" (KV caches), https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from types import TracebackType
from typing import Self

import numpy as np

from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.protocol import GenerativeModel
from axone.llm.types import Ids, Logits


class DecodingBatch:
    """Sequences that grow by one token at a time, and the logits after each, as a context manager.

    Parameters
    ----------
    model : GenerativeModel
    prompts : sequence of sequence of int
        The B sequences at first. Only the last `context_length` tokens of each are read.
    workers : int, optional
        The most threads or processes that compute at once, by default one per core; 1 never forks.
    prompt_cache : PromptCache, optional
        For one prompt: tokens that it holds are not read again, and afterwards it holds all that were read.

    Attributes
    ----------
    sequences : list of list of int
        Prompts and appended tokens.

    Raises
    ------
    TypeError
        If a prompt holds anything but integers.
    ValueError
        If a prompt is empty or holds an unknown id.
    """

    def __init__(
        self,
        model: GenerativeModel,
        prompts: Sequence[Sequence[int]],
        *,
        workers: int | None = None,
        prompt_cache: PromptCache | None = None,
    ) -> None:
        if prompt_cache is not None and len(prompts) != 1:
            raise ValueError(f"a prompt cache is for one prompt, not for {len(prompts)}")
        self._model = model
        self._length = model.config.context_length
        self._half = max(self._length // 2, 1)
        self.sequences = [check_prompt(prompt, model.config.vocab_size) for prompt in prompts]
        self._decoder = model.decoder(workers=workers)
        # A single sequence starts again at the first column when the context is full. The rows of a batch fill at
        # different times, so their caches have room for twice the context.
        room = self._length if len(prompts) == 1 else 2 * self._length
        self._num_read = 0  # tokens of the first sequence at the last call of `logits`
        self._starts = [0] * len(prompts)  # the column where each sequence begins
        self._guesses: list[int] = []  # which the caches hold after the tokens of the only sequence
        self._prompt_cache = prompt_cache
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(map(tuple, self.sequences)))}
        self._distinct = None  # for each sequence, its row among the distinct ones, until these have been read once
        if len(distinct) < len(prompts):
            self._distinct = np.array([distinct[tuple(sequence)] for sequence in self.sequences])
        if prompt_cache is None:
            self._caches = model.make_caches(len(distinct), room)
            return
        self._caches, prompt = prompt_cache.caches, self.sequences[0]
        prompt_cache.hold(prompt_cache.ids[: prompt_cache.common_prefix(prompt)] if len(prompt) <= self._length else ())

    def __enter__(self) -> Self:
        self._decode = self._decoder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoder.__exit__(kind, error, trace)
        if self._prompt_cache is not None:
            self._drop_guesses()
            # An error inside a forward leaves the blocks' caches of different lengths.
            whole = error is None or isinstance(error, GeneratorExit)
            held = self._caches[0].length
            read = self.sequences[0][: self._num_read] if self._num_read else self._prompt_cache.ids
            self._prompt_cache.hold(read[len(read) - held :] if whole else ())

    def logits(self) -> Logits:
        """Read all tokens that have not been read yet.

        Returns
        -------
        ndarray, shape (B, V)
            The logits after the last token of each sequence.
        """
        self._drop_guesses()
        held, is_first = self._caches[0].length, self._num_read == 0
        self._num_read = len(self.sequences[0])
        if held == 0:
            return self._prefill(self._length)
        if is_first:  # the prompt cache holds the beginning
            return self._decode(np.asarray(self.sequences[0][held:])[None], self._caches)
        if held - min(self._starts) < self._length and held < self._caches[0].max_length:  # nearly always
            return self._read_last()
        full = [row for row, start in enumerate(self._starts) if held - start >= self._length]
        if len(full) == len(self.sequences):
            return self._prefill(self._half)
        if held == self._caches[0].max_length:
            self._drop_padding()
        if full:
            self._restart(full)
        return self._read_last()

    @property
    def max_guesses(self) -> int:
        """The most guesses that `verify` can read now: 0 for several sequences, and before the first logits."""
        if len(self.sequences) != 1 or self._num_read == 0 or self._guesses or self._starts[0]:
            return 0
        return max(self._length - self._caches[0].length - 1, 0)

    def verify(self, guesses: Sequence[int]) -> Logits:
        """Read the last token of the only sequence, and guesses of the tokens after it.

        Tokens that are appended next and equal the guesses need not be read again; the other guesses are forgotten.

        Parameters
        ----------
        guesses : sequence of int
            At most `max_guesses`.

        Returns
        -------
        ndarray, shape (guesses + 1, V)
            The logits after the last token, and after each guess.
        """
        logits = self._decode(np.asarray([[self.sequences[0][-1], *guesses]]), self._caches, last_only=False)
        self._num_read = len(self.sequences[0])
        self._guesses = list(guesses)
        every: Logits = logits[0]
        return every

    def append(self, tokens: Sequence[int]) -> None:
        """Append a token to each sequence."""
        for sequence, token in zip(self.sequences, tokens, strict=True):
            sequence.append(token)
        if self._guesses:
            if self._guesses[0] == tokens[0]:
                del self._guesses[0]
                self._num_read += 1
            else:
                self._drop_guesses()

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only some sequences, in the order given."""
        self.sequences = [self.sequences[row] for row in rows]
        self._starts = [self._starts[row] for row in rows]
        for cache in self._caches:
            cache.select(np.asarray(rows, np.intp))
        if len(rows) == 1 and self._starts[0]:
            self._drop_padding()  # one sequence without padding is decoded faster

    def _drop_guesses(self) -> None:
        """Forget the guesses that no token has confirmed."""
        if self._guesses:
            for cache in self._caches:
                cache.length -= len(self._guesses)
            self._guesses = []

    def _prefill(self, most: int) -> Logits:
        """Read the last tokens of all sequences into empty caches, padded on the left."""
        for cache in self._caches:
            cache.length = 0
        rows, self._distinct = self._distinct, None
        ends = [sequence[-most:] for sequence in self.sequences]
        width = max(map(len, ends))
        self._starts = [width - len(end) for end in ends]
        padded = np.asarray([[0] * (width - len(end)) + end for end in ends])  # (B, T)
        if rows is None:
            return self._decode(padded, self._caches, self._padding())
        starts, first = self._padding(), np.unique(rows, return_index=True)[1]
        logits = self._decode(padded[first], self._caches, None if starts is None else starts[first])
        for cache in self._caches:
            cache.select(rows)
        every: Logits = logits[rows]
        return every

    def _read_last(self) -> Logits:
        """Read the last token of all sequences."""
        last = np.array([[sequence[-1]] for sequence in self.sequences])  # (B, 1)
        return self._decode(last, self._caches, self._padding())

    def _padding(self) -> Ids | None:
        """Return where the sequences begin, or None without padding."""
        return np.asarray(self._starts) if any(self._starts) else None

    def _restart(self, rows: Sequence[int]) -> None:
        """Continue some sequences from their last half: read it again, except for its last token."""
        begin = self._caches[0].length - self._half + 1
        if self._half > 1:
            ends = np.asarray([self.sequences[row][-self._half : -1] for row in rows])  # (N, half - 1)
            caches = self._model.make_caches(len(rows), self._half - 1)
            self._decode(ends, caches)
            for cache, other in zip(self._caches, caches, strict=True):
                cache.overwrite_last(np.asarray(rows, np.intp), other)
        for row in rows:
            self._starts[row] = begin

    def _drop_padding(self) -> None:
        """Make room: drop the columns before all sequences."""
        unused = min(self._starts)
        self._starts = [start - unused for start in self._starts]
        for cache in self._caches:
            cache.drop_first(unused)


def check_prompt(prompt: Sequence[int], vocab_size: int) -> list[int]:
    """Return a copy of a prompt.

    Raises
    ------
    TypeError
        If it holds anything but integers.
    ValueError
        If it is empty or holds an unknown id.
    """
    try:
        ids = [index(id) for id in prompt]
    except TypeError:
        raise TypeError(
            f"prompt_ids ({prompt!r:.60}) must be a sequence of token ids, which are integers: encode text first"
        ) from None
    if not ids:
        raise ValueError("a prompt of no tokens cannot be continued: give at least one token")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(f"prompt_ids (from {min(ids)} to {max(ids)}) must be in [0, {vocab_size})")
    return ids
