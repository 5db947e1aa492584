"""Lock of a folder: one process at a time writes there.

The operating system releases the lock when its process ends, however it ends, so that a killed process leaves no lock. The
file holds the id of the process, for the error message.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from axone.llm.errors import CheckpointError, RunBusyError
from axone.llm.storage.regular import NO_FOLLOW, require_regular

_TIMEOUT = 5.0  # seconds to wait for the forked workers of an owner that has ended
_OPEN = os.O_RDWR | os.O_CREAT | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)


class FolderLock:
    """A lock that this process holds.

    Parameters
    ----------
    path : Path
        The lock file.
    descriptor : int
        The locked descriptor of that file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def is_held(self) -> bool:
        """Return whether the path still names the locked file: not if its folder was removed or replaced.

        The open descriptor keeps the file's inode from being used again.
        """
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except OSError:
            return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[FolderLock]:
    """Hold the lock of a file's folder, and remove the file in the end.

    Raises
    ------
    RunBusyError
        If another process holds it.
    CheckpointError
        If the path is a symbolic link, another name of a file, or not a regular file.
    """
    descriptor = _acquire(path)
    lock = FolderLock(path, descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield lock
    finally:
        held = lock.is_held()  # otherwise the file at this path is another run's
        try:
            if held and os.name != "nt":
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        if held and os.name == "nt":  # Windows removes no open files
            with contextlib.suppress(OSError):
                path.unlink()


def _acquire(path: Path) -> int:
    give_up = time.monotonic() + _TIMEOUT
    while True:
        descriptor = _open(path)
        if not try_lock(descriptor):
            owner = os.pread(descriptor, 20, 0).decode(errors="replace") if hasattr(os, "pread") else ""
            os.close(descriptor)
            if _has_ended(owner) and time.monotonic() < give_up:
                time.sleep(0.01)  # its forked children inherited the lock and release it when they notice that it ended
                continue
            raise RunBusyError(
                f"{path.parent} is being trained by process {owner or 'unknown'}: wait for it or stop it"
            )
        if FolderLock(path, descriptor).is_held():
            return descriptor
        os.close(descriptor)  # the last owner removed the file between opening and locking it


def _open(path: Path) -> int:
    """Open a lock file, which must be a regular file with one name: its content is overwritten."""
    try:
        descriptor = os.open(path, _OPEN, 0o666)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise CheckpointError(path, "must be a regular file to be locked: remove it") from error
        raise
    try:
        require_regular(descriptor, path)
    except OSError as error:
        os.close(descriptor)
        raise CheckpointError(path, "must be a regular file to be locked: remove it") from error
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise CheckpointError(path, "is a hard link, and locking would overwrite its other file: remove it")
    return descriptor


def _has_ended(owner: str) -> bool:
    """Return whether no process has an id; False on Windows, where `os.kill` would end it."""
    if os.name == "nt" or not owner.isdigit():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # a process of another user, or no id
        return False
    return False


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, unsupported: bool = True) -> bool:  # noqa: ARG001 - as elsewhere
        """Lock a file without waiting, and return whether that worked: a byte far behind the content that others read."""
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(descriptor: int, *, unsupported: bool = True) -> bool:
        """Lock a file or folder without waiting, and return whether that worked; `unsupported` where there are no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return unsupported
        return True
