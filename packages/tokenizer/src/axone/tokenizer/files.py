"""Reading and writing `tokenizer.json` as a file: closed JSON in, whole files out.

Reading refuses what it does not know: a key, a value or a type that nobody asked for is named in the error, because a part
of a tokenizer that is silently ignored gives wrong ids. Writing goes to a temporary file beside the target, which is synced
and renamed into place, so that a reader finds the old file or the new one and never half of either.

What the parts of a file mean is not known here: the modules of the tokenizers know.

References
----------
.. [1] The format as Hugging Face tokenizers writes it, https://huggingface.co/docs/tokenizers
"""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import NoReturn, TypeGuard

from axone.tokenizer.protocol import TokenizerError

FILE_NAME = "tokenizer.json"


class Section:
    """One JSON object of a file. Each key must be asked for; `finish` refuses what is left.

    Parameters
    ----------
    value : object
        What the file holds there.
    where : str
        Its place in the file, for messages.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise TokenizerError(f"{where} must be a JSON object, not {brief(value)}.")
        self._fields: dict[str, object] = dict(value)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def take(self, key: str, default: object = None) -> object:
        """Return the value of a key, or the default where the file has none."""
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
        """Return a value that must be an object whose keys are not known beforehand."""
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
        """Return a value that must map strings to token ids, no id twice."""
        value = self.take_mapping(key)
        vocabulary: dict[str, int] = {}
        owners: dict[int, str] = {}
        for token, id in value.items():
            if not (is_text(token) and is_id(id)):
                raise TokenizerError(
                    f"{self.where}.{key} must map strings to token ids, but has {brief(token)}: {brief(id)}."
                )
            if id in owners:
                raise TokenizerError(
                    f"{self.where}.{key} gives id {id} to both {brief(owners[id])} and {brief(token)}; ids must differ."
                )
            owners[id] = token
            vocabulary[token] = id
        return vocabulary

    def expect(self, key: str, *allowed: object) -> None:
        """Refuse the value of a key that is none of the allowed ones. A missing key counts as the first."""
        value = self.take(key, allowed[0])
        if not any(value == each and type(value) is type(each) for each in allowed):
            self._refuse(key, " or ".join(json.dumps(each) for each in allowed) + " (nothing else is supported)", value)

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        if self._fields:
            names = ", ".join(brief(key) for key in sorted(self._fields))
            raise TokenizerError(f"{self.where} has parts that are not supported: {names}.")

    def _refuse(self, key: str, wanted: str, value: object) -> NoReturn:
        raise TokenizerError(f"{self.where}.{key} must be {wanted}, not {brief(value)}.")


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a JSON value is a string that UTF-8 can hold."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_id(value: object) -> TypeGuard[int]:
    """Tell whether a JSON value can be a token id: true and 1.0 cannot."""
    return type(value) is int and 0 <= value < 2**31


def brief(value: object) -> str:
    """Show a JSON value in a message, cut where it is long."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def file_in(path: str | os.PathLike[str]) -> Path:
    """Return the `tokenizer.json` that a path means: the one inside it if it is a folder, else itself."""
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def read_json(path: str | os.PathLike[str]) -> object:
    """Read a JSON file strictly: valid UTF-8, no key twice in one object, no NaN.

    Raises
    ------
    TokenizerError
        If it is not that.
    OSError
        If it cannot be read.
    """
    path = file_in(path)
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise TokenizerError(f"{path} is nested too deeply to be a tokenizer.") from None
    except ValueError as error:  # of JSON, of UTF-8, of a number too long, and our own below
        raise TokenizerError(f"{path} is not valid JSON: {error}.") from None


def write_json(path: str | os.PathLike[str], document: object) -> None:
    """Write a JSON file in UTF-8, whole or not at all; `path` is the file or an existing folder."""
    write_whole(file_in(path), (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its target, sync it and rename it into place.

    The file's mode is what the process's umask leaves of 0o666, as for any file. On a system whose folders cannot be synced
    the rename still is atomic, only not yet durable.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist; make it before saving {path.name} there.")
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
    with contextlib.suppress(OSError):  # Windows opens no folders
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
