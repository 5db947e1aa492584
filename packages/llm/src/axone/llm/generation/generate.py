"""Generation: tokens one after the other, from a model and a prompt; and text, for those who have a tokenizer too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import numpy as np

from axone.autograd import no_grad
from axone.llm.generation.batch import BatchReader, CachedModel, Logits
from axone.llm.generation.sampling import Sampling
from axone.llm.generation.stop_strings import StopText
from axone.llm.runtime.settings import adapted_memory, kept_memory
from axone.tokenizer import StreamDecoder, Tokenizer


class SamplingOptions(TypedDict, total=False):
    """The options of `Sampling`, by name."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float


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
    again and the rest forgotten. A large model is read by several processes where that is possible: they are forked
    when the text has begun, and end with it. The weights must not change meanwhile.

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
    # The reader comes first: its copies of weights are quickest made where large arrays still come as large pages.
    with BatchReader(model, [prompt_ids]) as reader, adapted_memory():
        for _ in range(max_new_tokens):
            token = sampling.choose(reader.logits()[0], reader.sequences[0], rng)
            if token in stop_ids:
                return
            yield token
            reader.append([token])


@dataclass(frozen=True)
class Completion:
    """What a model made of a prompt.

    Attributes
    ----------
    text : str
        Up to the stop text, if one came.
    ids : list of int
        The new tokens, without a stop id, but with those that made up a stop text.
    log_probabilities : list of float
        Of each new token, in nats: what the model gave it, before temperature and filters.
    stopped : bool
        Whether a stop id or a stop text ended it, rather than the number of tokens.
    """

    text: str
    ids: list[int]
    log_probabilities: list[float]
    stopped: bool


class TextGenerator:
    """A model and its tokenizer, which generate text.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer
    """

    def __init__(self, model: CachedModel, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 200,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        rng: np.random.Generator | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """Yield pieces of the text that follows a prompt, never half a character.

        Parameters
        ----------
        prompt : str
            At least one character.
        max_new_tokens : int, default 200
        stop : sequence of str
            Texts that end the generation; they are not yielded.
        stop_ids, rng, **options
            As in `generate`.

        Yields
        ------
        str

        Raises
        ------
        ValueError
            If the prompt is empty or the tokenizer does not know it, or an option is out of its range.
        """
        text = StopText(stop)
        decoder = self.tokenizer.stream_decoder()
        ids = self.tokenizer.encode(prompt)
        for token in generate(self.model, ids, max_new_tokens=max_new_tokens, stop_ids=stop_ids, rng=rng, **options):
            piece = text.push(decoder.push([token]))
            if piece:
                yield piece
            if text.stopped:
                return
        rest = text.push(decoder.flush()) + text.flush()
        if rest:
            yield rest

    @no_grad()
    @kept_memory()
    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 200,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Completion]:
        """Return what follows each of several prompts, generated together.

        Each comes out as it would alone, whatever its company.

        Parameters
        ----------
        prompts : sequence of str
            Each of at least one character.
        max_new_tokens : int, default 200
            For each.
        stop, stop_ids, **options
            As in `stream`.
        seeds : sequence of int, optional
            One for each prompt: with the seed s, the text is that of `stream` with ``rng=default_rng(s)``. None draws
            fresh ones.

        Returns
        -------
        list of Completion
            In the order of the prompts.

        Raises
        ------
        ValueError
            As `stream`, or if there are not as many seeds as prompts.
        """
        if seeds is not None and len(seeds) != len(prompts):
            raise ValueError(
                f"each prompt needs a seed of its own: {len(prompts)} prompts came, and {len(seeds)} seeds"
            )
        sampling = Sampling(**options)
        rows = [
            _Row(
                self.tokenizer.stream_decoder(),
                StopText(stop),
                np.random.default_rng(None if seeds is None else seeds[number]),
            )
            for number in range(len(prompts))
        ]
        if not rows:
            return []
        live = list(rows)
        with BatchReader(self.model, [self.tokenizer.encode(prompt) for prompt in prompts]) as reader:
            for _ in range(max_new_tokens):
                logits = reader.logits()
                tokens = []
                for row, scores, sequence in zip(live, logits, reader.sequences):
                    token = sampling.choose(scores, sequence, row.rng)
                    tokens.append(token)
                    row.take(token, scores, stop_ids)
                reader.append(tokens)
                going = [number for number, row in enumerate(live) if not row.stopped]
                if not going:
                    break
                if len(going) < len(live):
                    live = [live[number] for number in going]
                    reader.keep(going)
        return [row.completion() for row in rows]


@dataclass
class _Row:
    """One of several texts that are generated together."""

    decoder: StreamDecoder
    stop: StopText
    rng: np.random.Generator
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    stopped: bool = False

    def take(self, token: int, logits: Logits, stop_ids: Sequence[int]) -> None:
        """Take a token."""
        if token in stop_ids:
            self.stopped = True
            return
        self.ids.append(token)
        self.log_probabilities.append(_log_probability(token, logits))
        self.pieces.append(self.stop.push(self.decoder.push([token])))
        self.stopped = self.stop.stopped

    def completion(self) -> Completion:
        """Return the whole text."""
        if not self.stop.stopped:
            self.pieces.append(self.stop.push(self.decoder.flush()) + self.stop.flush())
        return Completion("".join(self.pieces), self.ids, self.log_probabilities, self.stopped or self.stop.stopped)


def _log_probability(token: int, logits: Logits) -> float:
    """Return the logarithm of a token's probability, in nats."""
    scores = np.subtract(logits, logits.max(), dtype=np.float64)
    own: float = scores.item(token)
    return own - math.log(np.exp(scores, scores).sum())
