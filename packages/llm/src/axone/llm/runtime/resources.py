"""Resources of the machine: cores, memory, and the environment that the bits of a result depend on."""

import contextlib
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info


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
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "blas": sorted({f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in blas}),
        "blas_threads": sorted({int(b["num_threads"]) for b in blas}),
    }
