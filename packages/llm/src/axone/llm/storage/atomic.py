"""Atomic and durable writes: a file or folder is written under a temporary name, synced to the disk and renamed.

The order makes it durable: the bytes, ``fsync`` of the file, the rename, ``fsync`` of the folder that has the name. A
rename replaces a symbolic link and never writes to the file that the link names.

A temporary name is ``.NAME.PROCESS.RANDOM.tmp``. The writer holds a lock on it, so that another process removes only those
of writers that have ended (`remove_leftovers`).

References
----------
.. [1] T. S. Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent
   Applications", https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
"""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from axone.llm.errors import CheckpointError
from axone.llm.storage.lock import try_lock
from axone.llm.storage.regular import NO_FOLLOW

_CHUNK = 1 << 24  # bytes per write: Windows takes less than 2 GB, and a signal is handled between two writes
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | getattr(os, "O_BINARY", 0)
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.\d+\.[0-9a-f]{8}\.tmp", re.DOTALL)
_LEFTOVER_IN_RUN = re.compile(r"\..+\.\d+(\.[0-9a-f]{8}|\.gone)?\.tmp", re.DOTALL)  # format 0 had no random part


class TemporaryFile(io.RawIOBase):
    """A new file that is being written through its descriptor, unbuffered; `write` takes any contiguous buffer."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, data: Any, /) -> int:
        """Write all bytes of a buffer, and return their number."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        for start in range(0, view.nbytes, _CHUNK):
            rest = view[start : start + _CHUNK]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        return view.nbytes


def write_file(path: Path, content: bytes) -> None:
    """Replace a file's content durably; at every moment the old or the new content is there.

    Raises
    ------
    OSError
        If it cannot be written: the message says how many bytes are needed. The old content stays.
    """
    write_chunks(path, [content], len(content))


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview], size: int | None) -> None:
    """Replace a file's content as `write_file`, by chunks that need not be in memory together.

    Parameters
    ----------
    path : Path
    chunks : iterable of bytes-like
    size : int or None
        Their total size in bytes, if it is known before.
    """
    with replacing_file(path, size) as file:
        for chunk in chunks:
            file.write(chunk)


@contextlib.contextmanager
def replacing_file(path: Path, size: int | None) -> Iterator[TemporaryFile]:
    """Open a temporary file, and rename it durably when the block ends without an error.

    Its mode is what the umask leaves of 0o666.

    Parameters
    ----------
    path : Path
    size : int or None
        The number of bytes that will be written, if it is known before: for the message if they cannot be written.

    Yields
    ------
    TemporaryFile

    Raises
    ------
    OSError
        If the file cannot be written: the old content stays, and nothing is left behind.
    """
    temporary, descriptor = temporary_path(path), -1
    try:
        _remove_stale(path)
        while descriptor < 0:
            temporary = temporary_path(path)
            descriptor = _claim(os.open(temporary, _CREATE, 0o666), temporary)
        yield TemporaryFile(descriptor)
        os.fsync(descriptor)
        if os.name == "nt":  # Windows renames no open files
            os.close(descriptor)
            descriptor = -1
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        _close(descriptor)
        descriptor = -1
        _discard(temporary)
        if not isinstance(error, OSError):
            raise
        needed = "" if size is None else f", and {size:,} bytes are needed"
        raise OSError(error.errno, f"{error.strerror or error}{needed}", str(path)) from error
    finally:
        _close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file durably, indented."""
    write_file(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """Return the bytes of a JSON file: the same content always gives the same bytes."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


@contextlib.contextmanager
def new_folder(path: Path, *, parents: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Make a temporary folder, and rename it durably when the block ends without an error.

    Parameters
    ----------
    path : Path
    parents : bool, default False
        Whether to make the folders above it.
    overwrite : bool, default False
        Whether it takes the place of a folder that is there.

    Yields
    ------
    Path

    Raises
    ------
    FileExistsError
        If `path` is there and must not be replaced, or another process has just made it.
    OSError
        If the folder cannot be written; nothing is left behind.
    """
    temporary, descriptor = temporary_path(path), None
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        while descriptor is None:
            temporary = temporary_path(path)
            temporary.mkdir()
            descriptor = _open_folder(temporary)
        yield temporary
        sync_folder(temporary)
        if overwrite and path.exists():
            _swap(path, temporary)
        else:
            temporary.rename(path)
        sync_folder(path.parent)
    except BaseException as error:
        _discard(temporary)
        if not isinstance(error, OSError):
            raise
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise FileExistsError(error.errno, "exists already", str(path)) from error
        named = str(error.filename or path).replace(str(temporary), str(path))
        raise OSError(error.errno, error.strerror or str(error), named) from error
    finally:
        _close(descriptor)


def _open_folder(path: Path) -> int | None:
    """Open and lock a folder: None if another process took it for a leftover before that."""
    if os.name == "nt":  # Windows opens no folders
        return -1
    with contextlib.suppress(FileNotFoundError):
        descriptor = _claim(os.open(path, os.O_RDONLY), path)
        return descriptor if descriptor >= 0 else None
    return None


def _swap(path: Path, temporary: Path) -> None:
    """Give a new folder the name of an old one, and remove the old one."""
    old = temporary_path(path)
    descriptor = _open_folder(path)
    try:
        path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)  # files that cannot be removed stay as leftovers
    finally:
        _close(descriptor)


def require_creatable(path: Path) -> None:
    """Check that a folder can be made, by making a temporary one in the nearest folder above it that exists.

    Only the system knows: permissions, a full disk and folders such as ``/proc`` all count.

    Raises
    ------
    OSError
        If it cannot; nothing is left behind.
    """
    parents = path.absolute().parents
    parent = next((parent for parent in parents if parent.exists()), parents[-1])
    try:
        trial = temporary_path(parent / path.name)
        trial.mkdir()
        with contextlib.suppress(FileNotFoundError):  # another process took it for a leftover
            trial.rmdir()
    except OSError as error:
        raise OSError(error.errno, f"cannot be made ({error.strerror})", str(path)) from error


def require_folder(path: Path) -> None:
    """Check that a path is a folder, as a run or a model folder must be.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    if not path.is_dir():
        raise CheckpointError(path, "is not a folder: name a run")


def remove_folder(path: Path) -> None:
    """Rename a folder to a temporary name, then delete it, so that a partly deleted folder is never read."""
    doomed = temporary_path(path)
    path.rename(doomed)
    sync_folder(path.parent)
    shutil.rmtree(doomed, ignore_errors=True)  # files that cannot be removed stay as leftovers


def temporary_path(path: Path) -> Path:
    """Return a new temporary name beside a path."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files and folders in a run's folder, also those of format 0."""
    return [path for path in folder.iterdir() if _LEFTOVER_IN_RUN.fullmatch(path.name)]


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in a run's folder; the caller must hold the run's lock."""
    for path in leftovers(folder):
        _discard(path)


def _remove_stale(path: Path) -> None:
    """Remove the temporary files and folders of a path whose writers have ended: those that no process has locked."""
    if os.name == "nt":  # Windows opens no folders, so that nothing says whether their writers have ended
        return
    with contextlib.suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{path.name}.")]
        for name in names:
            match = _LEFTOVER.fullmatch(name)
            if match is not None and match["name"] == path.name:
                _remove_unlocked(path.with_name(name))


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW)
        try:
            if try_lock(descriptor, unsupported=False):
                _discard(path)
        finally:
            os.close(descriptor)


def _claim(descriptor: int, path: Path) -> int:
    """Lock a new temporary file or folder; return -1 if another process took it for a leftover before that."""
    if os.name == "nt" or (try_lock(descriptor) and path.exists()):
        return descriptor
    os.close(descriptor)
    return -1


def _close(descriptor: int | None) -> None:
    if descriptor is not None and descriptor >= 0:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Remove a temporary file or folder, if there is one, without hiding the error that led here."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the platform can."""
    if os.name == "nt":  # Windows opens no folders and writes names through
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
