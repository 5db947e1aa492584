"""Turns of a conversation as token ids, with the mask of the tokens that the assistant says.

Most templates do not mark the assistant's part themselves. So each assistant turn is found by rendering: the messages before
it with the beginning of an answer, and the messages up to it. The first text must be a prefix of the second; the difference,
up to the special token that ends the turn, is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from axone.llm.chat.template import ChatTemplate, Message, SpecialTokenizer, guard, guarded_parts, split_special
from axone.llm.errors import ChatTemplateError


class Turns(NamedTuple):
    """A conversation as token ids.

    Attributes
    ----------
    ids : list of int
    spans : list of (int, int)
        Where each assistant turn starts and stops: its text, and the token that ends it.
    """

    ids: list[int]
    spans: list[tuple[int, int]]


def encode_turns(template: ChatTemplate, messages: Sequence[Message], tokenizer: SpecialTokenizer) -> list[Turns]:
    """Return a conversation as token ids, and where the assistant speaks.

    The prompt and the answer are encoded apart, as they are when the model generates: no token spans both. A template may
    render a turn otherwise once others follow, for instance without its thoughts. An answer that does not continue the text
    so far begins a sequence of its own, which holds the turns before it as the model reads them when it answers.

    Parameters
    ----------
    template : ChatTemplate
    messages : sequence of Message
        With at least one of the assistant.
    tokenizer : SpecialTokenizer

    Returns
    -------
    list of Turns
        Each up to the end of its last assistant turn; one where the template allows it.

    Raises
    ------
    ChatTemplateError
        If the template cannot render the messages, or does not render an assistant's text as it is.
    """
    special = tokenizer.special_tokens
    guarded, marks = guard(messages, template, special)
    sequences: list[Turns] = []
    parts: list[str | int] = []
    spans: list[tuple[int, int]] = []
    encoded = ""  # the text of the parts
    for number, message in enumerate(guarded):
        if message["role"] != "assistant":
            continue
        before = template.render(guarded[:number], add_generation_prompt=True)
        answer = _answer(before, template.render(guarded[: number + 1]), message["content"], special)
        if spans and not before.startswith(encoded):
            sequences.append(Turns(tokenizer.encode_parts(parts), spans))
            parts, spans, encoded = [], [], ""
        parts += guarded_parts(before[len(encoded) :], marks, special)
        start = len(tokenizer.encode_parts(parts))
        parts += guarded_parts(answer, marks, special)
        spans.append((start, len(tokenizer.encode_parts(parts))))
        encoded = before + answer
    return [*sequences, Turns(tokenizer.encode_parts(parts), spans)]


def _answer(before: str, after: str, content: str, special: Mapping[str, int]) -> str:
    """Return the target text after a prompt: the assistant's text, and the special token that ends the turn."""
    answer = after.removeprefix(before)
    at = answer.find(content.strip())
    if not after.startswith(before) or not answer or at < 0:
        raise ChatTemplateError(
            "the chat template does not render the assistant's text after the beginning of its turn, so its tokens cannot "
            "be found: choose a template with turns"
        )
    stop = at + len(content.strip())
    parts = split_special(answer[stop:], special)
    return answer[:stop] + "".join(parts[:2]) if len(parts) > 1 else answer
