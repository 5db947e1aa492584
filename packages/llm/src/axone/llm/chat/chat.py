"""Chat: a conversation with a model, whose KV cache is kept from turn to turn.

Before each answer the whole conversation is rendered and encoded, but only the tokens after the longest prefix that the
cache already holds are read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from axone.llm.chat.template import ChatTemplate, Message, SpecialTokenizer
from axone.llm.generation.batch import check_prompt
from axone.llm.generation.generate import stream_tokens
from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.protocol import GenerativeModel
from axone.llm.generation.sampling import SamplingConfig
from axone.llm.generation.speculation import DraftChoice, check_draft
from axone.tokenizer import Tokenizer


class ChatTokenizer(Tokenizer, SpecialTokenizer, Protocol):
    """A tokenizer with special tokens, such as `BPETokenizer`."""


@dataclass(frozen=True)
class Answer:
    """Statistics of an answer.

    Attributes
    ----------
    prompt_tokens : int
        The tokens of the conversation before the answer.
    read_tokens : int
        Those of them that were not in the cache.
    new_tokens : int
        The tokens of the answer.
    first_token_seconds, seconds : float
        The time until the first token, and until the last.
    finished : bool
        Whether the model ended the answer, rather than the limit or the caller.
    """

    prompt_tokens: int
    read_tokens: int
    new_tokens: int
    first_token_seconds: float
    seconds: float
    finished: bool


class Chat:
    """A conversation with a model.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    tokenizer : ChatTokenizer
    template : ChatTemplate
        The one that the model was taught with.
    messages : sequence of Message
        The conversation so far, such as a system message.
    max_new_tokens : int, default 1024
        The most tokens of an answer.
    sampling : SamplingConfig, optional
        How tokens are chosen.
    rng : numpy.random.Generator, optional
        Draws the tokens; None makes a new one.
    workers : int, optional
        As in `generate`.
    draft : "prompt" or Draft, optional
        As in `generate`; the prompt is the whole conversation.

    Attributes
    ----------
    messages : list of Message
        The conversation. Changes to it take effect with the next answer.
    sampling : SamplingConfig
    last : Answer or None
        Statistics of the last answer.

    Raises
    ------
    ChatTemplateError
        If the template cannot render a question and an answer.
    """

    def __init__(
        self,
        model: GenerativeModel,
        tokenizer: ChatTokenizer,
        template: ChatTemplate,
        *,
        messages: Sequence[Message] = (),
        max_new_tokens: int = 1024,
        sampling: SamplingConfig | None = None,
        rng: np.random.Generator | None = None,
        workers: int | None = None,
        draft: DraftChoice = None,
    ) -> None:
        check_draft(draft)
        self.messages = list(messages)
        self.sampling = sampling or SamplingConfig()
        self.max_new_tokens = max_new_tokens
        self.last: Answer | None = None
        self._tokenizer = tokenizer
        self._template = template
        self._model = model
        self._stop_ids = frozenset({*model.eos_ids, *turn_end_ids(template, tokenizer)})
        self._cache = PromptCache(model)
        self._rng = np.random.default_rng(rng)
        self._workers = workers
        self._draft = draft

    def send(self, text: str) -> Generator[str, None, None]:
        """Yield the answer to a message, piece by piece.

        Closing the iterator ends the answer; what was yielded stays in the conversation.

        Parameters
        ----------
        text : str

        Yields
        ------
        str

        Raises
        ------
        ChatTemplateError
            If the template refuses the message.
        """
        return self._answer([*self.messages, {"role": "user", "content": text}])

    def retry(self) -> Generator[str, None, None]:
        """Yield another answer to the last message, in place of the last one.

        Yields
        ------
        str

        Raises
        ------
        ValueError
            If there is no message to answer.
        """
        messages = (
            self.messages[:-1] if self.messages and self.messages[-1]["role"] == "assistant" else self.messages[:]
        )
        if not messages or messages[-1]["role"] != "user":
            raise ValueError("there is no message to answer: send one first")
        return self._answer(messages)

    def _answer(self, messages: list[Message]) -> Generator[str, None, None]:
        """Return the answer to messages, which replace the conversation once it begins."""
        prompt = self._template.encode(messages, self._tokenizer, add_generation_prompt=True)
        return self._pieces(messages, check_prompt(prompt, self._model.config.vocab_size))

    def _pieces(self, messages: list[Message], prompt: list[int]) -> Generator[str, None, None]:
        self.messages[:] = messages
        held = self._cache.common_prefix(prompt) if len(prompt) <= self._model.config.context_length else 0
        tokens = stream_tokens(
            self._model,
            prompt,
            self.max_new_tokens,
            self.sampling,
            self._stop_ids,
            self._rng,
            self._workers,
            self._tokenizer.vocab_size,
            self._cache,
            self._draft,
        )
        decoder, pieces, count, finished = self._tokenizer.stream_decoder(), [""], 0, False
        begin = time.perf_counter()
        first: float | None = None
        try:
            with contextlib.closing(tokens):
                for token in tokens:
                    first, count = first or time.perf_counter() - begin, count + 1
                    pieces.append(decoder.push([token]))
                    if pieces[-1]:
                        yield pieces[-1]
                finished = count < self.max_new_tokens
                pieces.append(decoder.flush())
                if pieces[-1]:
                    yield pieces[-1]
        finally:
            seconds = time.perf_counter() - begin
            self.messages.append({"role": "assistant", "content": "".join(pieces)})
            self.last = Answer(len(prompt), len(prompt) - held, count, first or seconds, seconds, finished)


def turn_end_ids(template: ChatTemplate, tokenizer: SpecialTokenizer) -> tuple[int, ...]:
    """Return the special tokens with which a template ends an answer.

    They are the first special token after the content of an assistant's message, where the template renders one.
    """
    question: Message = {"role": "user", "content": "Hello"}
    answer: Message = {"role": "assistant", "content": "Hello"}
    before = template.encode([question], tokenizer, add_generation_prompt=True)
    whole = template.encode([question, answer], tokenizer)
    special = set(tokenizer.special_tokens.values())
    after = whole[len(before) :] if whole[: len(before)] == before else []
    return tuple(next(([id] for id in after if id in special), []))
