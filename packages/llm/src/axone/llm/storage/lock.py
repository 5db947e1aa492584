"""A lock on a folder: one process at a time writes there.

The operating system holds it, and lets it go when the process ends, however it ends: a lock that a killed process left
is no lock. The file holds the number of the process, for those who wonder who it is.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from axone.llm.errors import RunBusyError

_PATIENCE = 5.0  # seconds


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a file stands for, and remove the file in the end.

    Raises
    ------
    RunBusyError
        If another process holds it.
    """
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        try:
            if os.name != "nt":
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        if os.name == "nt":  # Windows removes no open files
            with contextlib.suppress(OSError):
                path.unlink()


def _acquire(path: Path) -> int:
    give_up = time.monotonic() + _PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _try_lock(descriptor):
            owner = os.pread(descriptor, 20, 0).decode(errors="replace") if hasattr(os, "pread") else ""
            os.close(descriptor)
            if _has_ended(owner) and time.monotonic() < give_up:
                time.sleep(0.01)  # what it had just forked shares its lock until it finds itself alone
                continue
            raise RunBusyError(
                f"{path.parent} is being trained by process {owner or 'unknown'}: wait for it or stop it"
            )
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # whoever held it removed the file meanwhile: this one is nobody's


def _has_ended(owner: str) -> bool:
    """Tell whether there is no process of a number; where asking would end it, say no."""
    if os.name == "nt" or not owner.isdigit():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        """Lock a byte far behind the content, which others may read."""
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: go without one
            return True
        return True
