"""Strict reading and atomic writing of JSON files.

Reading refuses every unknown key, value and type by name, because an ignored part of a tokenizer means wrong ids.
Writing goes to a temporary file beside the target, which is synced and renamed into place, so that a reader finds
either the old file or the new one.

The meaning of the parts is defined by the modules of the tokenizers.

References
----------
.. [1] The format as Hugging Face tokenizers writes it, https://huggingface.co/docs/tokenizers
"""

import contextlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import NoReturn, TypeGuard

from axone.tokenizer.errors import TokenizerError

_SURROGATE = re.compile(r"[\ud800-\udfff]")
FILE_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"


class Section:
    """JSON object of a file. Each known key is taken; `finish` refuses all others.

    Parameters
    ----------
    value : object
        The parsed value.
    where : str
        Its path in the file, for messages.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise TokenizerError(f"{where} must be a JSON object, not {brief(value)}")
        self._fields: dict[str, object] = dict(value)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def take(self, key: str, default: object = None) -> object:
        """Return the value of a key, or the default if it is missing."""
        return self._fields.pop(key, default)

    def take_text(self, key: str) -> str:
        """Return a value that must be a string of valid Unicode."""
        value = self.take(key)
        if not is_text(value):
            self._refuse(key, "a string of valid Unicode", value)
        return value

    def take_flag(self, key: str, *, default: bool) -> bool:
        """Return a value that must be true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            self._refuse(key, "true or false", value)
        return value

    def take_id(self, key: str) -> int:
        """Return a value that must be a token id."""
        value = self.take(key)
        if not is_id(value):
            self._refuse(key, "a token id", value)
        return value

    def take_section(self, key: str) -> "Section":
        """Return a value that must be an object."""
        return Section(self.take(key), f"{self.where}.{key}")

    def take_mapping(self, key: str) -> dict[str, object]:
        """Return a value that must be an object with arbitrary keys."""
        value = self.take(key)
        if not isinstance(value, dict):
            self._refuse(key, "a JSON object", value)
        return value

    def take_list(self, key: str) -> list[object]:
        """Return a value that must be a list; null and a missing key count as empty."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._refuse(key, "a list", value)
        return value

    def take_vocabulary(self, key: str) -> dict[str, int]:
        """Return a value that must map strings to distinct token ids."""
        value = self.take_mapping(key)
        ids = [id for id in value.values() if is_id(id)]
        if len({*ids}) == len(value) and is_text("".join(value)):
            return dict(zip(value, ids))
        vocabulary: dict[str, int] = {}
        owners: dict[int, str] = {}
        for token, id in value.items():
            if not (is_text(token) and is_id(id)):
                raise TokenizerError(
                    f"{self.where}.{key} holds {brief(token)}: {brief(id)}, but must map strings to token ids"
                )
            if id in owners:
                raise TokenizerError(
                    f"{self.where}.{key} has id {id} for both {brief(owners[id])} and {brief(token)}: ids must differ"
                )
            owners[id] = token
            vocabulary[token] = id
        return vocabulary

    def expect(self, key: str, *allowed: object) -> None:
        """Check that a value is one of the allowed ones. A missing key counts as the first of them."""
        value = self.take(key, allowed[0])
        if not any(value == each and type(value) is type(each) for each in allowed):
            self._refuse(key, " or ".join(json.dumps(each) for each in allowed) + " (nothing else is supported)", value)

    def finish(self) -> None:
        """Check that all keys have been taken."""
        if self._fields:
            names = ", ".join(brief(key) for key in sorted(self._fields))
            raise TokenizerError(f"{self.where} has unsupported keys: {names}")

    def _refuse(self, key: str, wanted: str, value: object) -> NoReturn:
        raise TokenizerError(f"{self.where}.{key} ({brief(value)}) must be {wanted}")


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a JSON value is a string without surrogates."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


def is_id(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a token id; true and 1.0 are not."""
    return type(value) is int and 0 <= value < 2**31


def brief(value: object) -> str:
    """Return a JSON value for a message, shortened if it is long."""
    if value is not None and not isinstance(value, str | int | float):
        kind = type(value).__name__
        return {"dict": "an object", "list": "a list"}.get(kind, kind)
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def file_in(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file itself: the `tokenizer.json` inside a folder, otherwise the path."""
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def read_json(path: str | os.PathLike[str]) -> object:
    """Read a JSON file that must be valid UTF-8, without repeated keys and without NaN. A byte order mark is skipped.

    Raises
    ------
    TokenizerError
        If it is not valid.
    OSError
        If it cannot be read.
    """
    path = file_in(path)
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise TokenizerError(f"{path} is nested too deeply for a tokenizer") from None
    except ValueError as error:  # of JSON, of UTF-8, of a number with too many digits, and the two below
        raise TokenizerError(f"{path} is not valid JSON: {error}") from None


def to_json(document: object) -> bytes:
    """Return the bytes that `write_json` writes."""
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def write_json(path: str | os.PathLike[str], document: object) -> None:
    """Write a JSON file in UTF-8 atomically; `path` is the file or an existing folder."""
    write_atomic(file_in(path), to_json(document))


def read_document(path: str | os.PathLike[str]) -> tuple[object, object]:
    """Read a `tokenizer.json`, and the `tokenizer_config.json` beside it if `path` is a folder that holds one.

    Returns
    -------
    document, config : object
        The parsed files; `config` is None if there is none.

    Raises
    ------
    TokenizerError
        If a file is not valid JSON.
    OSError
        If a file cannot be read.
    """
    config = Path(path) / CONFIG_NAME
    return read_json(path), read_json(config) if config.is_file() else None


def write_atomic(path: Path, content: bytes) -> None:
    """Write a temporary file beside the target, sync it and rename it into place.

    The mode is 0o666 without the bits of the process's umask. On a system whose folders cannot be synced the rename
    is atomic, but not durable at once.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist: create it before saving {path.name} there")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {brief(key)} appears twice in one object")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
