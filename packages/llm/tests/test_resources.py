"""Resources: CPU quotas and memory limits of containers."""

import math
import os
from pathlib import Path

import pytest

from axone.llm.runtime import resources


def file_system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, math.inf),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, math.inf),
        (
            {  # the smallest quota of a group and those above it
                "proc/self/cgroup": "0::/a.slice/b.scope\n",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {  # a path of the host, seen in a container
                "proc/self/cgroup": "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "0\n",
            },
            math.inf,
        ),
    ],
)
def test_cpu_quota_of_a_container_is_read(files: dict[str, str], quota: float, tmp_path: Path) -> None:
    assert min(resources._cpu_quotas(file_system(tmp_path, files))) == quota


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 8), (0.5, 1), (2.0, 2), (2.1, 3), (7.5, 8), (9.0, 8)])
def test_available_cores_are_within_the_quota(quota: float, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(resources, "_cpu_quotas", lambda _: [math.inf, quota])
    assert resources.available_cores() == cores


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, []),
        (MACHINE, [8000 * 1024]),
        (
            {
                **MACHINE,
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "3000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 700\n",
                "sys/fs/cgroup/memory.max": "max\n",
            },
            [8000 * 1024, 2700],
        ),
        (
            {  # version 1
                "proc/self/cgroup": "4:memory:/b\n",
                "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "5000\n",
                "sys/fs/cgroup/memory/b/memory.usage_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/b/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 500\n",
            },
            [1500, 0],
        ),
    ],
)
def test_memory_limits_of_both_versions_of_control_groups_are_read(
    files: dict[str, str], limits: list[int], tmp_path: Path
) -> None:
    assert resources._memory_limits(file_system(tmp_path, files)) == limits
