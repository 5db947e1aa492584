"""Memory that is kept for the next step: by glibc's setting, or by the engine where there is none."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from axone.autograd.extend import empty
from axone.llm.runtime import resources, settings
from axone.llm.runtime.threads import ThreadGroup


def is_pooled() -> bool:
    return not empty((1 << 20,), np.dtype(np.float32)).flags.owndata


def test_without_glibc_every_thread_of_a_team_uses_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_mallopt", lambda: None)
    with settings.kept_memory(), ThreadGroup(3) as team:
        assert team.run([is_pooled] * 3) == [True] * 3
    assert not is_pooled()


def test_with_glibc_its_setting_is_held_until_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(settings, "_mallopt", lambda: lambda option, value: calls.append((option, value)))
    with settings.kept_memory():
        raised = list(calls)
        with settings.kept_memory():
            assert not is_pooled()
        assert calls == raised
    assert [option for option, _ in calls] == [option for option, _ in raised] * 2
    assert all(value > before for (_, before), (_, value) in zip(calls[2:], raised, strict=True))


def system_of(root: Path, files: dict[str, str]) -> Path:
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
            {  # the narrowest of a group and those above
                "proc/self/cgroup": "0::/a.slice/b.scope\n",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {  # a host's path, seen in a container
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
def test_a_container_s_quota_is_read(files: dict[str, str], quota: float, tmp_path: Path) -> None:
    assert min(resources._quotas(system_of(tmp_path, files))) == quota


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 8), (0.5, 1), (2.0, 2), (2.1, 3), (7.5, 8), (9.0, 8)])
def test_cores_are_at_most_those_of_the_quota(quota: float, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(resources, "_quotas", lambda _: [math.inf, quota])
    assert resources.available_cores() == cores
