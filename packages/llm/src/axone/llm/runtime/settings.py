"""Settings of the process that make it fast, held for a while and put back: BLAS threads, cores and the allocator.

Nothing here is applied on import. Where a platform lacks one of them, training runs without it.
"""

import contextlib
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Collection, Iterator
from typing import Any

from threadpoolctl import ThreadpoolController

from axone.autograd.extend import reused_memory

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DEFAULT_THRESHOLD = 128 * 1024  # glibc's, for both
_KEEP = 1 << 30


@contextlib.contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Limit the threads inside each matrix product; None leaves them as they are."""
    if count is None:
        yield
        return
    libraries = _blas()
    before = [library.get_num_threads() for library in libraries]
    for library in libraries:
        library.set_num_threads(count)
    try:
        yield
    finally:
        for library, threads in zip(libraries, before):
            library.set_num_threads(threads)


@contextlib.contextmanager
def cpu_affinity(cores: Collection[int] | None) -> Iterator[None]:
    """Keep the calling thread on some cores; None leaves it where it is. Only Linux has the setting."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@functools.cache
def _blas() -> list[Any]:
    """Return handles on the libraries behind NumPy's products, looked for once: that takes milliseconds."""
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


_memory_lock = threading.Lock()
_memory_holders = 0


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory of large arrays that are let go for those that follow, instead of handing it back to the system.

    A training step frees and allocates the same large arrays again and again; every return costs page faults. glibc has
    a setting for that, for the whole process, until all who asked for it have ended. Elsewhere this thread's operations
    use their blocks again, as `axone.autograd.memory` says.
    """
    if _mallopt() is None:
        with reused_memory():
            yield
        return
    _hold_memory(1)
    try:
        yield
    finally:
        _hold_memory(-1)


def _hold_memory(change: int) -> None:
    global _memory_holders
    with _memory_lock:
        before, _memory_holders = _memory_holders, _memory_holders + change
        mallopt = _mallopt()
        if bool(before) == bool(_memory_holders):
            return
        threshold = _KEEP if _memory_holders else _DEFAULT_THRESHOLD
        mallopt(_M_MMAP_THRESHOLD, threshold)
        mallopt(_M_TRIM_THRESHOLD, threshold)
        if not _memory_holders:
            _trim()


@functools.cache
def _mallopt() -> Any:
    """Return glibc's mallopt, or None elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)


def _trim() -> None:
    """Hand free memory back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
