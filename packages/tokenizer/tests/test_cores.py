"""Tests of the number of usable cores under CPU quotas."""

import os
import sys
from pathlib import Path

import pytest

from axone.tokenizer.bpe import counting_workers
from axone.tokenizer.bpe.cores import available_cores


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1 0\n"}, 8),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "damaged\n"}, 8),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
@pytest.mark.usefixtures("eight_cores")
def test_cpu_quotas_of_control_groups_limit_the_cores(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    """A container with a quota of one core started eight interpreters."""
    assert available_cores(write(tmp_path, files)) == cores


def test_training_starts_one_worker_per_available_core(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []

    def start(number: int) -> list[counting_workers.Process]:
        wanted.append(number)
        return []

    monkeypatch.setattr(counting_workers, "_start", start)
    monkeypatch.setattr(counting_workers, "available_cores", lambda: 1)
    with counting_workers.CountingWorkers(None):
        assert wanted == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has CPU affinity")
def test_the_affinity_limits_the_cores() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
