"""Error class of the package, and the checks of text arguments that raise it."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_SUFFIXES = (
    ".txt",
    ".md",
    ".rst",
    ".py",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".html",
    ".xml",
    ".log",
    ".gz",
    ".zip",
    ".parquet",
)
_MAX_NAME = 1_024  # characters


class TokenizerError(ValueError):
    """Invalid text, ids, options or files. The message is one sentence."""


def check_text(text: str) -> None:
    """Check that text is a str without lone surrogates, which UTF-8 cannot encode.

    Raises
    ------
    TypeError
        If it is not a str.
    TokenizerError
        If it holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"text must be a str, not {type(text).__name__}: decode bytes, and pass several texts one by one"
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"text holds the lone surrogate U+{ord(text[error.start]):04X} at position {error.start}, which is "
            "not valid "
            "Unicode: read the text with errors='replace' or remove it"
        ) from None


def check_training_texts(texts: str | Iterable[str]) -> None:
    """Check that texts for training are not paths or names of files.

    Raises
    ------
    TypeError
        If they are a path.
    TokenizerError
        If the text, or every text of a list, is the name of a file.
    """
    if isinstance(texts, os.PathLike):
        raise TypeError(
            f"text must be a str, not a path: read the file first, as {texts!r}.read_text(encoding='utf-8')"
        )
    several = [texts] if isinstance(texts, str) else texts if isinstance(texts, list | tuple) else []
    if several and all(map(_names_file, several)):
        raise TokenizerError(
            f"text ({several[0]!r}) is the name of a file, not its content: read the file first, as "
            f"Path({several[0]!r}).read_text(encoding='utf-8')"
        )


def _names_file(text: object) -> bool:
    """Return whether a text is the name of a file: one that exists, or a word with the suffix of a text file."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_NAME or "\n" in text:
        return False
    if text.endswith(_SUFFIXES) and text not in _SUFFIXES and not any(map(str.isspace, text)):
        return True
    with contextlib.suppress(OSError, ValueError):  # of a name that is too long or holds a NUL character
        return Path(text).is_file()
    return False
