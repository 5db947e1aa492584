"""Records of chat data: the lines of a JSON-lines file, or the texts of a folder, checked, and faults named by their line.

Four shapes are recognised: ``{"messages": [{"role": ..., "content": ...}, ...]}``, ``{"prompt": ..., "completion": ...}``,
``{"text": ...}``, and a folder of text files. All lines of a file have the shape of its first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from axone.llm.chat.template import Message
from axone.llm.data.corpus import TextFiles
from axone.llm.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
_SHAPES = (("messages",), ("prompt", "completion"), ("text",))
_NAMES = "messages, prompt and completion, or text"


@dataclass(frozen=True)
class Dialogue:
    """Messages, the last of which the assistant may say."""

    messages: Sequence[Message]


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt, and the text that should follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Text:
    """A text, all of which is learned."""

    text: str


Record: TypeAlias = Dialogue | PromptCompletion | Text


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the records of a file or folder, each with its place for messages.

    Parameters
    ----------
    path : Path

    Yields
    ------
    place : str
        Such as ``"chats.jsonl, line 3"``.
    record : Record

    Raises
    ------
    DataError
        If the path cannot be read, or a line is not a record of the file's shape.
    """
    if path.is_dir():
        try:
            for text in TextFiles(path):
                yield str(path), Text(text)
        except ValueError as error:
            raise DataError(str(error)) from error
        return
    shape: tuple[str, ...] | None = None
    for number, line in _lines(path):
        place = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: is not JSON ({error}): write one JSON object per line") from error
        found = next((each for each in _SHAPES if isinstance(value, dict) and value.keys() >= set(each)), None)
        if found is None:
            named = f"has the keys {', '.join(value)}" if isinstance(value, dict) and value else "is not a JSON object"
            raise DataError(f"{place}: {named:.200}, and must have {_NAMES}")
        shape = shape or found
        if found != shape:
            raise DataError(f"{place}: has {' and '.join(found)}, and the lines before it have {' and '.join(shape)}")
        yield place, _record(place, shape, value)
    if shape is None:
        raise DataError(f"{path}: is empty: write one JSON object per line, with {_NAMES}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers from 1."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, after line {number}: is not valid UTF-8 ({error.reason}): convert it first"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _record(place: str, shape: tuple[str, ...], value: dict[str, Any]) -> Record:
    if shape == ("text",):
        return Text(_text(place, "text", value["text"]))
    if shape == ("messages",):
        return Dialogue(_messages(place, value["messages"]))
    prompt, completion = value["prompt"], value["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return Dialogue(_messages(place, prompt + completion))
    return PromptCompletion(_text(place, "prompt", prompt), _text(place, "completion", completion))


def _messages(place: str, value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: messages must be a list of at least one message, not {value!r:.60}")
    messages: list[Message] = []
    for item in value:
        if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
            raise DataError(f"{place}: a message must have a role and a content, not {item!r:.60}")
        if item["role"] not in ROLES:
            raise DataError(
                f"{place}: role {item['role']!r:.60} is unknown: use {', '.join(ROLES[:-1])} or {ROLES[-1]}"
            )
        messages.append({"role": item["role"], "content": _text(place, "content", item["content"])})
    if all(message["role"] != "assistant" for message in messages):
        raise DataError(f"{place}: no message is the assistant's, so there is nothing to learn")
    return messages


def _text(place: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: {name} must be a text, not {value!r:.60}")
    return value
