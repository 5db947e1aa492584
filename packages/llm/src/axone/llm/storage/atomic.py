"""Files and folders that are there whole or not at all: written beside, synced to the disk, and renamed into place.

The order is what makes it durable: the bytes, then ``fsync`` of the file, then the rename, then ``fsync`` of the folder
that holds the name. What a killed process leaves has a name that says so (`leftovers`), and is never read.

References
----------
.. [1] T. S. Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent
   Applications", https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from axone.llm.errors import CheckpointError

TEMPORARY = ".tmp"
_CHUNK = 1 << 24  # bytes in one write: Windows takes less than 2 GB, and a signal is seen between two
_LARGEST_JSON = 1 << 26  # bytes: far above any option file, and small enough to read


def write_file(path: Path, content: bytes) -> None:
    """Replace a file's content, durably; at every moment the old or the new one is there.

    Raises
    ------
    OSError
        If it cannot be written: the message says how many bytes are needed. The old content stays.
    """
    write_parts(path, [content], len(content))


def write_parts(path: Path, parts: Iterable[bytes | memoryview], size: int | None) -> None:
    """Replace a file's content as `write_file`, by parts that need not be in memory together.

    Parameters
    ----------
    path : Path
    parts : iterable of bytes-like
        The content, one after the other.
    size : int or None
        How much they are, in bytes, if that is known before.
    """
    with replaced(path, size) as beside, _opened(beside, os.O_WRONLY) as descriptor:
        for part in parts:
            rest = memoryview(part)
            while rest.nbytes:
                rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


@contextlib.contextmanager
def replaced(path: Path, size: int | None) -> Iterator[Path]:
    """Give out an empty file beside a path, and put it in its place, durably, when the block ends well.

    Its mode is what the umask leaves of 0o666, and stays so even if the block replaces the file by another.

    Parameters
    ----------
    path : Path
    size : int or None
        How much will be written, in bytes, if that is known before: for the message if it cannot be.

    Yields
    ------
    Path

    Raises
    ------
    OSError
        If it cannot be written: the old content stays, and nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with _opened(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
            mode = beside.stat().st_mode
        yield beside
        beside.chmod(mode)
        with _opened(beside, os.O_RDWR) as descriptor:
            os.fsync(descriptor)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        _discard(beside)
        needed = "" if size is None else f", and {size:,} bytes are needed"
        raise OSError(error.errno, f"{error.strerror or error}{needed}", str(path)) from error
    except BaseException:
        _discard(beside)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, durably and legibly."""
    write_file(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """Return the one way in which this package writes JSON."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give out a temporary folder to fill, and put it in place when the block ends well.

    Raises
    ------
    OSError
        If it cannot be written, or `path` is there already; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    if beside.exists():
        shutil.rmtree(beside)
    try:
        beside.mkdir(parents=True)
        yield beside
        sync_folder(beside)
        beside.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        _discard(beside)
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise FileExistsError(error.errno, "is there already", str(path)) from error
        asked = str(error.filename or path).replace(str(beside), str(path))
        raise OSError(error.errno, error.strerror or str(error), asked) from error
    except BaseException:
        _discard(beside)
        raise


def require_place(path: Path) -> None:
    """See that a folder can be made, by making another where the first missing one of its path will be.

    Only the system knows: rights, a full disk and folders such as ``/proc`` all count.

    Raises
    ------
    OSError
        If it cannot; nothing is left behind.
    """
    parents = path.absolute().parents
    place = next((parent for parent in parents if parent.exists()), parents[-1])
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=TEMPORARY, dir=place):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot be made ({error.strerror})", str(path)) from error


def require_folder(path: Path) -> None:
    """See that what should be a run, or a model in a folder, is a folder.

    Raises
    ------
    CheckpointError
        If it is none.
    """
    if not path.is_dir():
        raise CheckpointError(path, "is not a folder: name a run")


def remove_folder(path: Path) -> None:
    """Remove a folder under a name that tells it is going, so that nobody takes the half of it for the whole."""
    doomed = path.with_name(f".{path.name}.{os.getpid()}.gone{TEMPORARY}")
    path.rename(doomed)
    sync_folder(path.parent)
    shutil.rmtree(doomed, ignore_errors=True)  # what stays is a leftover


def leftovers(folder: Path, name: str = "") -> list[Path]:
    """Return what processes that died left in a folder while they wrote or removed something, maybe of one name only."""
    return [path for path in folder.iterdir() if path.name.startswith(f".{name}") and path.name.endswith(TEMPORARY)]


def clean(folder: Path, name: str = "") -> None:
    """Remove the leftovers of a folder; whoever writes there must have stopped others from doing so."""
    for path in leftovers(folder, name):
        _discard(path)


def _discard(path: Path) -> None:
    """Remove a temporary file or folder, whatever is there of it, without hiding the error that led here."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the platform can."""
    if os.name == "nt":  # Windows opens no folders and writes names through
        return
    with _opened(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file or folder as a descriptor."""
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, strictly: valid UTF-8, no name twice, no NaN.

    Raises
    ------
    CheckpointError
        If it is not there or not one.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(path, f"is no option file: it has more than {_LARGEST_JSON:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    return parse_json(path, content)


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object that bytes of a file hold, as `read_json`."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise CheckpointError(path, "is nested too deeply to be an option file") from None
    except ValueError as error:  # of JSON, of UTF-8, of a number too long, and our own below
        raise CheckpointError(path, f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(path, "must hold a JSON object")
    return value


def sha256(path: Path) -> str:
    """Return a file's SHA-256 sum.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
