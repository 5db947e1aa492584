"""Number of usable cores: CPU affinity and, on Linux, the CPU quotas of control groups.

References
----------
.. [1] Control Group v2, "CPU interface files", https://docs.kernel.org/admin-guide/cgroup-v2.html
.. [2] CFS Bandwidth Control, for version 1, https://docs.kernel.org/scheduler/sched-bwc.html
"""

import contextlib
import math
import os
from pathlib import Path


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process can use, at least 1.

    Parameters
    ----------
    root : Path
        The root of the file system with ``proc`` and ``sys``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(root), default=math.inf)
    return min(cores, max(math.ceil(quota), 1)) if quota < cores else cores


def _quotas(root: Path) -> list[float]:
    """Return the CPU quotas of the control groups of this process and of their parents, in cores."""
    quotas: list[float] = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for mounted in {controllers, "cpu"} if controllers else {""}:  # version 1 names controllers, version 2 none
                top = root / "sys/fs/cgroup" / mounted
                group = top / path.lstrip("/")  # a container may see the path of its host, which does not exist here
                quotas += [_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return quotas


def _quota(group: Path) -> float:
    """Return the CPU quota of one control group in cores, infinity without one."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" is not a number
        if (group / "cpu.max").exists():
            quota, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())
        else:
            files = (group / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (int(file.read_text(encoding="ascii")) for file in files)
        if quota > 0:
            return quota / period
    return math.inf
