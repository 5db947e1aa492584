"""Chat templates: the format of conversations on which a model was trained.

A template is a Jinja program that turns messages into the text that the model continues. What a user types is data: a
spelling of a special token in it is encoded as ordinary text, so no message can end its turn or begin another one.

References
----------
.. [1] Hugging Face, "Chat templates", https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from axone.llm.errors import ChatTemplateError, MissingDependencyError

_LARGEST = 1 << 16  # characters of a template: compiling a megabyte takes 7 s and 1.3 GB
_LONGEST_REASON = 300  # characters of an error
_FAILURES = (  # of Python, compiling or running what Jinja made of a template
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_MARKS = (  # noncharacters, which no text holds that is meant to be read
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)),
)


class Message(TypedDict):
    """A turn of a conversation.

    Attributes
    ----------
    role : str
        ``"system"``, ``"user"`` or ``"assistant"``, and whatever else the template knows.
    content : str
    """

    role: str
    content: str


class SpecialTokenizer(Protocol):
    """A tokenizer with special tokens, such as `BPETokenizer`."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The ids of the special tokens by their spelling."""

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """Return the ids of texts and special tokens; spellings of special tokens in a text are ordinary text."""


class ChatTemplate:
    """A chat template.

    Parameters
    ----------
    text : str
        The Jinja program.
    bos_token, eos_token : str
        Spellings of the tokens that the template calls by these names; empty where the model has none.

    Raises
    ------
    ChatTemplateError
        If the template is larger than 65,536 characters.
    MissingDependencyError
        If jinja2 is not installed.

    Examples
    --------
    >>> from axone.llm import ChatTemplate
    >>> template = ChatTemplate(
    ...     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    ... )
    >>> template.render([{"role": "user", "content": "Hello"}])
    '<user>Hello'
    """

    def __init__(self, text: str, *, bos_token: str = "", eos_token: str = "") -> None:
        try:
            import jinja2
        except ImportError as error:
            raise MissingDependencyError("chat templates", "jinja2", "axone-llm[chat]") from error
        if len(text) > _LARGEST:
            raise ChatTemplateError(f"the chat template has {len(text)} characters, and {_LARGEST} are the most")
        self.text = text
        self.bos_token, self.eos_token = bos_token, eos_token
        self._error = jinja2.TemplateError

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **variables: object) -> str:
        """Return a conversation as text.

        Parameters
        ----------
        messages : sequence of Message
        add_generation_prompt : bool, default False
            Whether the text ends with the beginning of the assistant's turn.
        **variables : object
            Further variables of the template, such as ``enable_thinking``.

        Returns
        -------
        str

        Raises
        ------
        ChatTemplateError
            If the template is not valid, refuses these messages, or exceeds a limit of time or memory.
        """
        from axone.llm.chat import sandbox

        given: dict[str, object] = {
            "messages": [{key: value for key, value in message.items() if value is not None} for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }
        try:
            return sandbox.render(self.text, given | variables)
        except self._error as error:
            raise ChatTemplateError(f"the chat template cannot render these messages: {_short(error)}") from error
        except _FAILURES as error:
            raise ChatTemplateError(
                f"the chat template fails on these messages ({type(error).__name__}: {_short(error)})"
            ) from error

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: SpecialTokenizer,
        *,
        add_generation_prompt: bool = False,
        **variables: object,
    ) -> list[int]:
        """Return a conversation as token ids: the template's special tokens, and the messages as ordinary text.

        Parameters
        ----------
        messages : sequence of Message
        tokenizer : SpecialTokenizer
        add_generation_prompt, **variables
            As in `render`.

        Returns
        -------
        list of int

        Raises
        ------
        ChatTemplateError
            As `render`.
        """
        guarded, marks = guard(messages, self, tokenizer.special_tokens)
        text = self.render(guarded, add_generation_prompt=add_generation_prompt, **variables)
        return tokenizer.encode_parts(guarded_parts(text, marks, tokenizer.special_tokens))


def guard(
    messages: Sequence[Message], template: ChatTemplate, special: Mapping[str, int]
) -> tuple[list[Message], dict[int, str]]:
    """Return messages that spell no special token, because marks replace the first characters of their spellings.

    Parameters
    ----------
    messages : sequence of Message
    template : ChatTemplate
        The one that will render them.
    special : mapping of str to int
        The ids of the special tokens by their spelling.

    Returns
    -------
    guarded : list of Message
    marks : dict of int to str
        The text that stands for each mark, for `str.translate`.

    Raises
    ------
    ChatTemplateError
        If the messages leave too few of the 66 noncharacters of Unicode as marks.
    """
    texts = _texts(messages, template.text)
    spelled = [token for token in special if any(token in message["content"] for message in messages)]
    replaced = sorted({token[0] for token in spelled})
    free = [mark for mark in _MARKS if not any(mark in text for text in (*texts, *special))][: len(replaced) + 1]
    if len(free) <= len(replaced):
        raise ChatTemplateError(
            "the messages hold nearly all noncharacters of Unicode: remove those from U+FDD0 to U+FDEF"
        )
    marks = dict(zip(replaced, free[1:]))
    guarded = [_guarded(message, special, marks, free[0]) for message in messages]
    return guarded, {ord(free[0]): "", **{ord(mark): character for character, mark in marks.items()}}


def split_special(text: str, special: Mapping[str, int]) -> list[str]:
    """Return the parts of a rendered text: what is between special tokens at even places, and these at odd ones."""
    if not special:
        return [text]
    spellings = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    return re.split(f"({spellings})", text)


def guarded_parts(text: str, marks: Mapping[int, str], special: Mapping[str, int]) -> list[str | int]:
    """Return the texts and ids of special tokens of a text that was rendered from guarded messages, for `encode_parts`.

    Parameters
    ----------
    text : str
    marks : mapping of int to str
        As `guard` returned them.
    special : mapping of str to int
    """
    parts = [part for part in split_special(text, special) if part]
    return [special.get(part, part.translate(marks)) for part in parts]


def _short(error: Exception) -> str:
    """Return the message of an error, which the template may have written, on one line of limited length."""
    return " ".join(str(error)[:_LONGEST_REASON].split())


def _texts(messages: Sequence[Message], template: str) -> list[str]:
    return [template, *(value for message in messages for value in message.values() if isinstance(value, str))]


def _guarded(message: Message, special: Mapping[str, int], marks: Mapping[str, str], edge: str) -> Message:
    """Return a message that spells no special token, neither whole nor in part at an edge."""
    text = message["content"]
    while spelled := [token for token in special if token in text]:  # overlapping spellings need several rounds
        for token in spelled:
            text = text.replace(token, marks[token[0]] + token[1:])
    core = text.strip()  # a template may strip it
    if any(core.endswith(token[:length]) for token in special for length in range(1, len(token))):
        text = text.rstrip() + edge + text[len(text.rstrip()) :]
    if any(core.startswith(token[-length:]) for token in special for length in range(1, len(token))):
        text = text[: -len(text.lstrip())] + edge + text.lstrip()
    return {**message, "content": text}
