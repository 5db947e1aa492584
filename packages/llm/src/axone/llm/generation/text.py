"""Text generation: a model with its tokenizer, for one text as a stream or for several in a batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np

from axone.autograd import no_grad
from axone.llm.generation.batch import DecodingBatch, check_prompt
from axone.llm.generation.generate import max_count, stop_set, stream_tokens
from axone.llm.generation.protocol import GenerativeModel
from axone.llm.generation.sampling import SamplingConfig, SamplingOptions
from axone.llm.generation.speculation import DraftChoice, check_draft
from axone.llm.generation.stop_strings import StopStrings
from axone.llm.generation.token_loop import Row, token_loop
from axone.llm.runtime.settings import kept_memory
from axone.llm.types import Logits
from axone.tokenizer import StreamDecoder, Tokenizer


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
        draft: DraftChoice = None,
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
        stop_ids, sampling, rng, workers, draft, **options
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
        check_draft(draft)
        tokens = stream_tokens(
            self.model,
            check_prompt(prompt_ids(self.tokenizer, prompt), self.model.config.vocab_size),
            max_count(max_new_tokens),
            SamplingConfig.merge(sampling, options),
            stop_set(self.model, stop_ids),
            np.random.default_rng(rng),
            workers,
            self.tokenizer.vocab_size,
            draft=draft,
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
        stops, count = stop_set(self.model, stop_ids), max_count(max_new_tokens)
        rows = [
            _TextRow(
                np.random.default_rng(None if rngs is None else rngs[number]),
                decoder=self.tokenizer.stream_decoder(),
                stop=StopStrings(stop),
            )
            for number in range(len(prompts))
        ]
        if not rows:
            return []
        ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        with DecodingBatch(self.model, ids, workers=workers) as batch:
            for chosen in token_loop(batch, rows, sampling, stops, count, self.tokenizer.vocab_size):
                for row, token, scores in chosen:
                    row.append(token, scores)
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


@dataclass(kw_only=True)
class _TextRow(Row):
    """One of several texts in a batch."""

    decoder: StreamDecoder
    stop: StopStrings
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)

    def append(self, token: int, logits: Logits) -> None:
        """Append a token, and end the text at a stop string."""
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
    scores = logits - logits.max()
    own: float = scores.item(token)
    weights: Logits = np.exp(scores, scores)  # in float32: float64 takes 0.4 ms for the 49,152 tokens of SmolLM2
    return own - math.log(np.add.reduce(weights, dtype=np.float64))
