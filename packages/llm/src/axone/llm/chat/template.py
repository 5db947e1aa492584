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
_MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))  # noncharacters, which no text holds that is meant to be read


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
        guarded, mark = guard(messages, self, tokenizer.special_tokens)
        text = self.render(guarded, add_generation_prompt=add_generation_prompt, **variables)
        return tokenizer.encode_parts(guarded_parts(text, mark, tokenizer.special_tokens))


def guard(messages: Sequence[Message], template: ChatTemplate, special: Mapping[str, int]) -> tuple[list[Message], str]:
    """Return messages in which a mark splits every spelling of a special token, and the mark.

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
    mark : str
        A character that is neither in the messages nor in the template.

    Raises
    ------
    ChatTemplateError
        If there is no such character.
    """
    mark = next((mark for mark in _MARKS if not any(mark in text for text in _texts(messages, template.text))), None)
    if mark is None:
        raise ChatTemplateError("the messages hold every noncharacter from U+FDD0 to U+FDEF: remove one of them")
    return [_guarded(message, special, mark) for message in messages], mark


def split_special(text: str, special: Mapping[str, int]) -> list[str]:
    """Return the parts of a rendered text: what is between special tokens at even places, and these at odd ones."""
    if not special:
        return [text]
    spellings = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    return re.split(f"({spellings})", text)


def guarded_parts(text: str, mark: str, special: Mapping[str, int]) -> list[str | int]:
    """Return the texts and ids of special tokens of a text that was rendered from guarded messages, for `encode_parts`.

    Parameters
    ----------
    text : str
    mark : str
        As `guard` returned it.
    special : mapping of str to int
    """
    parts = [part for part in split_special(text, special) if part]
    return [special.get(part, part.replace(mark, "")) for part in parts]


def _short(error: Exception) -> str:
    """Return the message of an error, which the template may have written, on one line of limited length."""
    return " ".join(str(error)[:_LONGEST_REASON].split())


def _texts(messages: Sequence[Message], template: str) -> list[str]:
    return [template, *(value for message in messages for value in message.values() if isinstance(value, str))]


def _guarded(message: Message, special: Mapping[str, int], mark: str) -> Message:
    """Return a message in which a mark splits every spelling of a special token, complete or begun at an edge."""
    text = message["content"]
    for token in special:
        text = text.replace(token, token[:1] + mark + token[1:])
    core = text.strip()  # a template may strip it
    if any(core.endswith(token[:length]) for token in special for length in range(1, len(token))):
        text = text.rstrip() + mark + text[len(text.rstrip()) :]
    if any(core.startswith(token[-length:]) for token in special for length in range(1, len(token))):
        text = text[: -len(text.lstrip())] + mark + text.lstrip()
    return {**message, "content": text}
