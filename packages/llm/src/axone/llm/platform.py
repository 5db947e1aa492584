"""Process-wide settings that make training fast, held for a while and put back: BLAS threads and the allocator.

Nothing here is applied on import. Where a platform lacks one of them, training runs without it.
"""

import contextlib
import ctypes
import os
import platform as _platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DEFAULT_THRESHOLD = 128 * 1024  # glibc's, for both
_KEEP = 1 << 30


@contextlib.contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Limit the threads inside each matrix product; None leaves them as they are."""
    if count is None:
        yield
        return
    with threadpool_limits(count, user_api="blas"):
        yield


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep large blocks that are freed, instead of handing each back to the system.

    A training step frees and allocates the same large arrays again and again; every return costs page faults. Only
    glibc has the setting.
    """
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _KEEP)
    mallopt(_M_TRIM_THRESHOLD, _KEEP)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _DEFAULT_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _DEFAULT_THRESHOLD)
        _trim()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> int | None:
    """Return the most memory that the process has held so far, in bytes, where the platform tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
