"""Resources of the machine: cores, memory, and the environment on which the bits of a result depend."""

import contextlib
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

SMALL_MODEL = 1 << 22
"""Parameters of the largest model that fits into the processor's caches.

Up to here, a model trains in forked processes, because its short steps wait for the interpreter lock of threads, and
decodes in one thread. A larger model trains in threads, because shared memory lacks large pages, and decodes in forked
processes. One constant for both, so that a sample during a training in forked processes never forks.
"""

MAX_WORKERS = 1024
"""Most threads or processes of a training: above the cores of any machine, and below what systems refuse."""


def available_cores() -> int:
    """Return the number of cores that this process may use; on Linux within the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_cpu_quotas(Path("/")))
    return min(cores, max(math.ceil(quota), 1)) if quota < cores else cores


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the control groups of this process that limit a resource, with those above them.

    Parameters
    ----------
    root : path
        The root of the file system.
    controller : str
        Such as ``"cpu"``.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            for mounted in {controllers, controller} if controllers else {""}:  # version 1, otherwise version 2
                top = root / "sys/fs/cgroup" / mounted
                group = top / path.lstrip("/")  # in a container it may be a path of the host, where only `top` exists
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _cpu_quotas(root: Path) -> list[float]:
    """Return the CPU quotas of this process, in cores, and infinity."""
    return [math.inf, *map(_cpu_quota, _control_groups(root, "cpu"))]


def _cpu_quota(group: Path) -> float:
    """Return the CPU quota of one control group, in cores; infinity without a quota."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" is not a number
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
    """Return the peak memory of this process in bytes; None where the platform does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def private_memory(process: int) -> int:
    """Return the memory that a process holds and does not share, in bytes; 0 where the platform does not report it.

    Parameters
    ----------
    process : int
        Process id.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def available_memory() -> int | None:
    """Return the memory that this process may still allocate, in bytes; None where the platform does not report it.

    On Linux within the memory limit of its container.
    """
    sizes = _memory_limits(Path("/"))
    if not sizes and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes, default=None)


def _memory_limits(root: Path) -> list[int]:
    """Return the free memory of the machine and of each control group of this process, in bytes."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        info = dict(line.split(":", 1) for line in lines)
        sizes.append(int(info["MemAvailable"].split()[0]) * 1024)
    for group in _control_groups(root, "memory"):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with contextlib.suppress(OSError, ValueError, KeyError):  # "max" is not a number
                most, present = (int((group / name).read_text(encoding="ascii")) for name in (limit, used))
                lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
                kinds = dict(line.split() for line in lines)
                sizes.append(max(most - present + int(kinds[cached]), 0))  # the kernel drops cached files first
    return sizes


def environment() -> dict[str, Any]:
    """Return the environment on which the bits of a result depend, besides code and workers."""
    blas = [library for library in threadpool_info() if library.get("user_api") == "blas"]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "blas": sorted({f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in blas}),
        "blas_threads": sorted({int(b["num_threads"]) for b in blas}),
    }
