"""Settings of the process that make it fast, held for a while and put back: BLAS threads, cores and the allocator.

Nothing here is applied on import. Where a platform lacks one of them, training runs without it.
"""

import contextlib
import ctypes
import functools
import math
import os
import platform as _platform
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController, threadpool_info

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
def on_cores(cores: Collection[int] | None) -> Iterator[None]:
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


def available_cores() -> int:
    """Return how many cores this process may use. On Linux a container's quota counts too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(Path("/")))
    return min(cores, max(math.ceil(quota), 1)) if quota < cores else cores


def _quotas(system: Path) -> list[float]:
    """Return the processor time that the control groups above this process allow, in cores: infinity among them.

    Parameters
    ----------
    system : path
        The root of the file system.
    """
    quotas = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        for line in (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for mounted in {controllers, "cpu"} if controllers else {""}:  # version 1, else 2
                top = system / "sys/fs/cgroup" / mounted
                group = top / path.lstrip("/")  # in a container it may be a path of its host: the top is its own then
                quotas += [_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return quotas


def _quota(group: Path) -> float:
    """Return the processor time that one control group allows, in cores; infinity without a quota."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no number
        if (group / "cpu.max").exists():
            quota, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())
        else:
            quota, period = (
                int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
            )
        if quota > 0:
            return quota / period
    return math.inf


def peak_memory() -> int | None:
    """Return the most memory that the process has held so far, in bytes, where the platform tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def private_memory(process: int) -> int:
    """Return the memory that a process holds now and shares with no other, in bytes; zero where the platform does not tell.

    Parameters
    ----------
    process : int
        Its id.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def available_memory() -> int | None:
    """Return how much more memory the process may take, in bytes, where the platform tells.

    On Linux a container's limit counts too.
    """
    sizes = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        info = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        sizes.append(int(info["MemAvailable"].split()[0]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))  # "max" is no number
        held = int((group / "memory.current").read_text(encoding="ascii"))
        kinds = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        sizes.append(max(limit - held + int(kinds["inactive_file"]), 0))  # cached files give way
    if not sizes and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes, default=None)


def environment() -> dict[str, Any]:
    """Return what the bits of a result depend on besides code and workers: compare it before expecting them again."""
    blas = [library for library in threadpool_info() if library.get("user_api") == "blas"]
    return {
        "python": _platform.python_version(),
        "numpy": np.__version__,
        "machine": _platform.machine(),
        "blas": sorted({f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in blas}),
        "blas_threads": sorted({int(b["num_threads"]) for b in blas}),
    }


@functools.cache
def _mallopt() -> Any:
    """Return glibc's mallopt, or None elsewhere."""
    if _platform.libc_ver()[0] != "glibc":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)


def _trim() -> None:
    """Hand free memory back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
