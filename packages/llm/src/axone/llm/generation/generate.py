"""Generation: one token after the other, from a model and a prompt; and text, with a tokenizer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Unpack

import numpy as np

from axone.autograd import no_grad
from axone.llm.generation.batch import DecodingBatch, check_prompt
from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.protocol import GenerativeModel
from axone.llm.generation.sampling import SamplingConfig, SamplingOptions
from axone.llm.generation.stop_strings import StopStrings
from axone.llm.runtime.settings import adapted_memory, kept_memory
from axone.llm.types import Logits
from axone.tokenizer import StreamDecoder, Tokenizer


def generate(
    model: GenerativeModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    sampling: SamplingConfig | None = None,
    stop_ids: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    prompt_cache: PromptCache | None = None,
) -> Iterator[int]:
    """Yield new tokens, one at a time.

    Each costs one position, because a cache holds the keys and values of earlier ones. When the context is full, its
    last half is read again and the rest is forgotten. A large model may be decoded by several processes: they are forked
    with the second token, and end with the text. The weights must not change meanwhile.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    prompt_ids : sequence of int
        At least one; only the last `context_length` are read.
    max_new_tokens : int
        The most tokens to yield.
    temperature, top_k, top_p, min_p, repetition_penalty
        As in `SamplingConfig`. By default all tokens may be drawn: Hugging Face's default is ``top_k=50``.
    sampling : SamplingConfig, optional
        These options as a whole, instead of one by one.
    stop_ids : sequence of int, optional
        Tokens that end the text, and are not yielded: by default the model's `eos_ids`. ``()`` ends it nowhere.
    rng : numpy.random.Generator, optional
        Draws the tokens; None makes a new one.
    workers : int, optional
        The most threads or processes that compute at once, besides the threads of BLAS: by default one per core for a
        large model, and one for a small model. 1 never forks.
    prompt_cache : PromptCache, optional
        Tokens that it holds are not read again; afterwards it holds those of this text.

    Yields
    ------
    int

    Raises
    ------
    TypeError
        If the prompt holds anything but integers, or an option has another type.
    ValueError
        If the prompt is empty or holds an unknown id, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, generate
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=1, num_heads=2, embed_dim=16
    ... )
    >>> model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    >>> len(list(generate(model, [1, 2, 3], max_new_tokens=5, top_k=10)))
    5
    """
    options = SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    if sampling is not None and options != SamplingConfig():
        raise TypeError("sampling and single options of it must not be given together: set them in SamplingConfig")
    prompt = check_prompt(prompt_ids, model.config.vocab_size)
    stops = _stop_ids(model, stop_ids)
    rng = np.random.default_rng(rng)
    return stream_tokens(
        model, prompt, _count(max_new_tokens), sampling or options, stops, rng, workers, prompt_cache=prompt_cache
    )


def stream_tokens(
    model: GenerativeModel,
    prompt: list[int],
    max_new_tokens: int,
    sampling: SamplingConfig,
    stop_ids: frozenset[int],
    rng: np.random.Generator,
    workers: int | None,
    vocab_size: int | None = None,
    prompt_cache: PromptCache | None = None,
) -> Generator[int, None, None]:
    """Yield new tokens; those from `vocab_size` on are never drawn."""
    with DecodingBatch(model, [prompt], workers=workers, prompt_cache=prompt_cache) as batch, adapted_memory():
        for _ in range(max_new_tokens):
            token = sampling.choose(batch.logits()[0, :vocab_size], batch.sequences[0], rng)
            if token in stop_ids:
                return
            yield token
            batch.append([token])


def _stop_ids(model: GenerativeModel, stop_ids: Sequence[int] | None) -> frozenset[int]:
    return frozenset(map(index, model.eos_ids if stop_ids is None else stop_ids))


def _count(max_new_tokens: int) -> int:
    if index(max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens ({max_new_tokens}) must be at least 0")
    return index(max_new_tokens)


@dataclass(frozen=True)
class Completion:
    """The text that a model made of a prompt.

    Attributes
    ----------
    text : str
        Up to the stop string, if one came.
    ids : list of int
        The new tokens, without a stop id, but with the tokens of a stop string.
    log_probabilities : list of float
        Of each new token in nats, as the model gives them, before temperature and filters.
    stopped : bool
        Whether a stop id or a stop string ended the text, rather than the number of tokens.
    """

    text: str
    ids: list[int]
    log_probabilities: list[float]
    stopped: bool


class TextGenerator:
    """A model and its tokenizer, which generate text.

    If the model's vocabulary is larger than the tokenizer's, as a padded one is, the ids that the tokenizer lacks are
    never drawn.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer
    """

    def __init__(self, model: GenerativeModel, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 200,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] | None = None,
        sampling: SamplingConfig | None = None,
        rng: np.random.Generator | None = None,
        workers: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """Yield pieces of the text that continues a prompt, never half a character.

        Parameters
        ----------
        prompt : str
            At least one character.
        max_new_tokens : int, default 200
        stop : sequence of str
            Strings that end the text, and are not yielded.
        stop_ids, sampling, rng, workers, **options
            As in `generate`.

        Yields
        ------
        str

        Raises
        ------
        TypeError
            If an option has another type.
        ValueError
            If the prompt is empty or has a character that the tokenizer lacks, or an option is out of range.
        """
        text = StopStrings(stop)
        tokens = stream_tokens(
            self.model,
            check_prompt(prompt_ids(self.tokenizer, prompt), self.model.config.vocab_size),
            _count(max_new_tokens),
            SamplingConfig.merge(sampling, options),
            _stop_ids(self.model, stop_ids),
            np.random.default_rng(rng),
            workers,
            self.tokenizer.vocab_size,
        )
        return _pieces(tokens, self.tokenizer.stream_decoder(), text)

    @no_grad()
    @kept_memory()
    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 200,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] | None = None,
        sampling: SamplingConfig | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
        workers: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Completion]:
        """Return the continuations of several prompts, generated in one batch.

        Each is the one that it would be alone.

        Parameters
        ----------
        prompts : sequence of str
            Each of at least one character.
        max_new_tokens : int, default 200
            For each.
        stop, stop_ids, sampling, workers, **options
            As in `stream`.
        rngs : sequence of numpy.random.Generator, optional
            One for each prompt, such as ``default_rng(0).spawn(len(prompts))``: its text is the one that `stream` yields
            with the same ``rng``. None makes new ones.

        Returns
        -------
        list of Completion
            In the order of the prompts.

        Raises
        ------
        TypeError
            As `stream`, or if `prompts` is one string.
        ValueError
            As `stream`, or if there are not as many generators as prompts.
        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts ({prompts!r:.60}) must be a list of strings: write [{prompts!r:.60}]")
        given: object = prompts
        if not isinstance(given, Sequence) or not all(isinstance(prompt, str) for prompt in given):
            raise TypeError(f"prompts ({prompts!r:.60}) must be a list of strings")
        if rngs is not None and len(rngs) != len(prompts):
            raise ValueError(
                f"rngs ({len(rngs)}) must be as many as prompts ({len(prompts)}): give one for each prompt"
            )
        sampling = SamplingConfig.merge(sampling, options)
        stops, steps = _stop_ids(self.model, stop_ids), _count(max_new_tokens)
        rows = [
            _Row(
                self.tokenizer.stream_decoder(),
                StopStrings(stop),
                np.random.default_rng(None if rngs is None else rngs[number]),
            )
            for number in range(len(prompts))
        ]
        if not rows:
            return []
        live, vocab_size = list(rows), self.tokenizer.vocab_size
        with DecodingBatch(
            self.model, [prompt_ids(self.tokenizer, prompt) for prompt in prompts], workers=workers
        ) as batch:
            for _ in range(steps):
                logits = batch.logits()
                tokens = []
                for row, scores, sequence in zip(live, logits, batch.sequences, strict=True):
                    token = sampling.choose(scores[:vocab_size], sequence, row.rng)
                    tokens.append(token)
                    row.append(token, scores, stops)
                batch.append(tokens)
                unfinished = [number for number, row in enumerate(live) if not row.stopped]
                if not unfinished:
                    break
                if len(unfinished) < len(live):
                    live = [live[number] for number in unfinished]
                    batch.keep(unfinished)
        return [row.completion() for row in rows]


def prompt_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text, after the token that the model expects before every text, where it expects one."""
    ids = tokenizer.encode(text)
    return [tokenizer.bos_token_id, *ids] if tokenizer.add_bos_token and tokenizer.bos_token_id is not None else ids


def _pieces(tokens: Generator[int, None, None], decoder: StreamDecoder, text: StopStrings) -> Iterator[str]:
    """Yield the text of tokens, up to a stop string."""
    with contextlib.closing(tokens):
        for token in tokens:
            piece = text.push(decoder.push([token]))
            if piece:
                yield piece
            if text.stopped:
                return
    rest = text.push(decoder.flush()) + text.flush()
    if rest:
        yield rest


@dataclass
class _Row:
    """One of several texts in a batch."""

    decoder: StreamDecoder
    stop: StopStrings
    rng: np.random.Generator
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    stopped: bool = False

    def append(self, token: int, logits: Logits, stop_ids: frozenset[int]) -> None:
        """Append a token, unless it is a stop id."""
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
