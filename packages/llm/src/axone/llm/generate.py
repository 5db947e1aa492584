"""Generation: tokens one after the other, from a model and a prompt; and text, for those who have a tokenizer too.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference" (the key-value cache),
   https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from axone.autograd import no_grad
from axone.llm.config import LanguageModelConfig
from axone.llm.sampling import Sampling
from axone.nn import KVCache
from axone.tokenizer import Tokenizer


class CachedModel(Protocol):
    """What generation needs of a model."""

    @property
    def config(self) -> LanguageModelConfig:
        """Its configuration."""

    def next_logits(self, ids: NDArray[np.integer[Any]], *, caches: Sequence[KVCache]) -> NDArray[np.floating[Any]]:
        """Return the logits after the last of `ids`."""

    def make_caches(self, batch: int) -> list[KVCache]:
        """Return empty caches."""


@no_grad()
def generate(
    model: CachedModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_ids: Sequence[int] = (),
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Yield new tokens, one at a time.

    Each costs one position, thanks to a cache of keys and values. When the context is full, its last half is read
    again and the rest forgotten.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    prompt_ids : sequence of int
        At least one; only the last `context_length` are read.
    max_new_tokens : int
        The most tokens to yield.
    temperature, top_k, top_p, min_p, repetition_penalty
        As in `Sampling`. By default all tokens may be drawn: Hugging Face's default is ``top_k=50``.
    stop_ids : sequence of int
        Tokens that end the generation; they are not yielded.
    rng : numpy.random.Generator, optional
        Where the draws come from; None draws a fresh one.

    Yields
    ------
    int

    Raises
    ------
    ValueError
        If the prompt is empty, holds an unknown id, or an option is out of its range.
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    rng = np.random.default_rng() if rng is None else rng
    length, vocab_size = model.config.context_length, model.config.vocab_size
    ids = list(prompt_ids)
    if not ids:
        raise ValueError("generation goes on from a prompt of at least one token, and this one is empty")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(
            f"a prompt's ids must be from 0 to {vocab_size - 1}, and these go from {min(ids)} to {max(ids)}"
        )
    caches = model.make_caches(1)
    unread = ids[-length:]
    for _ in range(max_new_tokens):
        if caches[0].length + len(unread) > length:
            unread = ids[-max(length // 2, 1) :]
            for cache in caches:
                cache.length = 0
        logits = model.next_logits(np.asarray([unread]), caches=caches)[0]  # (V,)
        token = sampling.choose(logits, np.asarray(ids), rng)
        if token in stop_ids:
            return
        yield token
        ids.append(token)
        unread = [token]


class TextGenerator:
    """A model and its tokenizer, which generate text.

    Parameters
    ----------
    model : LanguageModel
    tokenizer : Tokenizer
    """

    def __init__(self, model: CachedModel, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def stream(
        self, prompt: str, *, max_new_tokens: int = 200, stop: Sequence[str] = (), **options: Any
    ) -> Iterator[str]:
        """Yield pieces of the text that follows a prompt, never half a character.

        Parameters
        ----------
        prompt : str
            At least one character.
        max_new_tokens : int, default 200
        stop : sequence of str
            Texts that end the generation; they are not yielded.
        **options
            As in `generate`.

        Yields
        ------
        str

        Raises
        ------
        ValueError
            If the prompt is empty or the tokenizer does not know it, or an option is out of its range.
        """
        decoder = self.tokenizer.stream_decoder()
        ids = generate(self.model, self.tokenizer.encode(prompt), max_new_tokens=max_new_tokens, **options)
        pieces = _pieces(decoder, ids)
        return _until(pieces, stop) if stop else pieces


def _pieces(decoder: Any, ids: Iterator[int]) -> Iterator[str]:
    """Yield what the decoder makes of each token."""
    for token in ids:
        piece = decoder.push([token])
        if piece:
            yield piece
    rest = decoder.flush()
    if rest:
        yield rest


def _until(pieces: Iterator[str], stop: Sequence[str]) -> Iterator[str]:
    """Yield a text until one of `stop` begins, holding back what may yet become one."""
    held = ""
    longest = max(map(len, stop))
    for piece in pieces:
        held += piece
        found = [place for place in (held.find(s) for s in stop) if place >= 0]
        if found:
            if min(found):
                yield held[: min(found)]
            return
        ready = len(held) - longest + 1
        if ready > 0:
            yield held[:ready]
            held = held[ready:]
    if held:
        yield held
