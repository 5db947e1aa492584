"""Reading of regular files: FIFOs, devices and folders are refused before a byte is read.

A FIFO would block for ever, and ``/dev/zero`` has no end. The kind of file is checked after opening it, without blocking,
so that no other file can take its place in between.
"""

import errno
import hashlib
import json
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

from axone.llm.errors import CheckpointError

LARGEST_JSON = 1 << 26  # bytes: far above any option file, and small enough to read

_DEEPEST = 32  # levels of containers in a JSON file

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open` that refuses a symbolic link; zero on Windows, where making links takes a privilege."""


def open_regular(path: Path, *, follow_links: bool = True) -> FileIO:
    """Open a regular file for reading, unbuffered.

    Parameters
    ----------
    path : Path
    follow_links : bool, default True
        Whether the path may be a symbolic link to the file.

    Raises
    ------
    OSError
        If there is no such file, it is of another kind, or is a link that must not be followed.
    """
    try:
        descriptor = os.open(path, _READ | (0 if follow_links else NO_FOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.ELOOP, "symbolic link", str(path)) from error
        raise
    except ValueError as error:  # of a path that holds a NUL
        raise OSError(errno.EINVAL, "not a file name", str(path)) from error
    try:
        require_regular(descriptor, path)
        return open(descriptor, "rb", buffering=0)  # noqa: PTH123 - of a descriptor
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(descriptor: int, path: Path) -> None:
    """Check that a descriptor belongs to a regular file.

    Raises
    ------
    OSError
        If it does not.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, strictly: valid UTF-8, no name twice, finite numbers.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or its content is not a JSON object.
    """
    return parse_json(path, read_bytes(path, LARGEST_JSON))


def read_bytes(path: Path, limit: int, *, follow_links: bool = True) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path : Path
    limit : int
        The largest size that is read, in bytes.
    follow_links : bool, default True
        Whether the path may be a symbolic link to the file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is larger.
    """
    try:
        with open_regular(path, follow_links=follow_links) as file:
            content = bytearray()
            while len(content) <= limit and (part := file.read(1 << 20)):
                content += part
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error
    if len(content) > limit:
        raise CheckpointError(path, f"is too large: it has more than {limit:,} bytes")
    return bytes(content)


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object in the content of a file, as `read_json`."""
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except RecursionError:
        raise CheckpointError(path, "is nested too deeply to be an option file") from None
    except ValueError as error:  # from JSON, UTF-8, too long a number, and the functions below
        raise CheckpointError(path, f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(path, "must hold a JSON object")
    if _is_deep(value):
        raise CheckpointError(path, "is nested too deeply to be an option file")
    return value


def sha256(path: Path, *, follow_links: bool = True) -> str:
    """Return the SHA-256 sum of a regular file.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    try:
        with open_regular(path, follow_links=follow_links) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return fields


def _is_deep(value: Any) -> bool:
    """Return whether containers are nested more deeply than any of ours: repr and json.dumps would fail on them."""
    level = [value]
    for _ in range(_DEEPEST):
        values = (item for each in level for item in (each.values() if isinstance(each, dict) else each))
        level = [item for item in values if isinstance(item, dict | list)]
    return bool(level)


def _number(text: str) -> float:
    value = float(text)
    if value in {float("inf"), -float("inf")}:
        raise ValueError(f"{text:.20} is too large a number")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
