"""Settings of the process that training and generation change for speed: BLAS threads, CPU affinity and the allocator.

Importing this module changes nothing. Each setting is a context manager that restores the original value. A setting of
the whole process counts its holders, because trainings and generations in several threads may overlap and end in any
order: the last one to leave restores it. A platform without a setting runs without it.

References
----------
.. [1] Linux man-pages, "mallopt(3)", https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from axone.autograd.extend import reused_memory

V = TypeVar("V")
S = TypeVar("S")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_ALL = 1 << 30
_LARGEST_ADAPTED = 1 << 25  # bytes: glibc raises its mmap threshold to the size of freed blocks, up to this one


class _SharedSetting(Generic[V, S]):
    """Setting of the whole process with counted holders.

    Parameters
    ----------
    read : callable
        Returns the present state.
    write : callable
        Sets a state.
    combine : callable
        From the values of all holders to a state.
    """

    def __init__(self, read: Callable[[], S], write: Callable[[S], None], combine: Callable[[list[V]], S]) -> None:
        self._read, self._write, self._combine = read, write, combine
        self._lock = threading.RLock()  # reentrant: the garbage collector may end a holder while its thread is in here
        self._values: dict[object, V] = {}
        self._original: S | None = None
        self._present: S | None = None
        if hasattr(os, "register_at_fork"):  # another thread may have held the lock at the fork
            os.register_at_fork(after_in_child=self._renew_lock)

    @contextlib.contextmanager
    def hold(self, value: V) -> Iterator[None]:
        """Hold the setting until the end of the block."""
        holder = object()
        try:
            try:
                self._set(holder, value)
                yield
            finally:
                self._remove(holder)
        finally:
            self._remove(holder)  # an interrupt may have ended the first call before it began

    def _set(self, holder: object, value: V) -> None:
        with self._lock:
            if not self._values:
                self._original = self._present = self._read()
            self._values[holder] = value
            self._apply()

    def _remove(self, holder: object) -> None:
        with self._lock:
            self._values.pop(holder, None)
            self._apply()
            if not self._values:
                self._original = self._present = None

    def _apply(self) -> None:
        """Write the state that follows from the holders, until no other holder has come or gone meanwhile."""
        while self._original is not None:
            state = self._combine(list(self._values.values())) if self._values else self._original
            if state == self._present:
                return
            self._present = None  # unknown if an interrupt arrives during the write
            self._write(state)
            self._present = state

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


@functools.cache
def _blas_libraries() -> list[Any]:
    """Return handles of the BLAS libraries of this process: the search takes milliseconds."""
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


def _read_blas_threads() -> list[int]:
    return [library.get_num_threads() for library in _blas_libraries()]


def _write_blas_threads(counts: list[int]) -> None:
    for library, count in zip(_blas_libraries(), counts, strict=True):
        library.set_num_threads(count)


_blas_threads: _SharedSetting[int, list[int]] = _SharedSetting(
    _read_blas_threads, _write_blas_threads, lambda limits: [min(limits)] * len(_blas_libraries())
)


def blas_threads(count: int | None) -> contextlib.AbstractContextManager[None]:
    """Limit the threads inside each matrix product, in the whole process; None sets no limit.

    The smallest limit of all holders applies.
    """
    return contextlib.nullcontext() if count is None else _blas_threads.hold(count)


class CpuAffinity:
    """Context manager that pins the calling thread to some cores. Only Linux has the setting.

    Parameters
    ----------
    cores : collection of int or None
        None does not pin.
    """

    def __init__(self, cores: Collection[int] | None) -> None:
        self._cores = cores
        self._thread = 0
        self._original: set[int] | None = None

    def __enter__(self) -> Self:
        if self._cores is not None:
            self._thread = threading.get_native_id()
            try:
                self._original = os.sched_getaffinity(0)
                os.sched_setaffinity(0, self._cores)
            except BaseException:
                self.restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Restore the original cores, if they are not restored yet.

        A KeyboardInterrupt may end `__exit__` before its first line: callers that catch it call this once more.
        """
        if self._original is not None:
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                os.sched_setaffinity(self._thread, self._original)
            self._original = None


def _set_mallopt(keep: bool) -> None:
    """Set glibc's thresholds, which mallopt makes static for good: there is no way back to the adaptive ones."""
    mallopt = _mallopt()
    if not (keep and mallopt(_M_MMAP_THRESHOLD, _KEEP_ALL)):  # glibc before 2.35 refuses more than 32 MiB
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ADAPTED)
    mallopt(_M_TRIM_THRESHOLD, _KEEP_ALL if keep else 2 * _LARGEST_ADAPTED)
    if not keep:
        _trim()


_kept_memory: _SharedSetting[bool, bool] = _SharedSetting(lambda: False, _set_mallopt, any)


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep the memory of freed arrays in the process for later arrays.

    A training step allocates and frees the same large arrays again and again; each return to the system costs page
    faults. With glibc this holds for the whole process until the last holder leaves. The thresholds are then those that
    glibc's own adaptation ends at, because its initial 128 KiB would be static: a sum of 1 MiB would take 490 us, not
    55. With other C libraries the operations of the calling thread reuse their blocks (`axone.autograd.memory`).
    """
    with reused_memory() if _mallopt() is None else _kept_memory.hold(True):
        yield


def adapted_memory() -> contextlib.AbstractContextManager[None]:
    """Keep the memory of freed arrays of up to 32 MiB for later arrays, without a setting of the whole process.

    Generators use it: one that is never exhausted would hold a setting for as long as it lives. glibc raises its own
    thresholds once a block of that size is freed. With other C libraries the operations of the calling thread reuse
    their blocks, as in `kept_memory`.
    """
    if _mallopt() is None:
        return reused_memory()
    _adapt_thresholds()
    return contextlib.nullcontext()


@functools.cache
def _adapt_thresholds() -> None:
    np.empty(_LARGEST_ADAPTED - (1 << 13), np.uint8)  # mapped and unmapped, but not touched: 5 us


@functools.cache
def _mallopt() -> Any:
    """Return glibc's mallopt, or None for another C library."""
    if platform.libc_ver()[0] != "glibc":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)


def _trim() -> None:
    """Return free memory to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
