"""Memory that is kept for the next step: by glibc's setting, or by the engine where there is none."""

import numpy as np
import pytest

from axone.autograd.extend import empty
from axone.llm import platform
from axone.llm.team import Team


def is_pooled() -> bool:
    return not empty((1 << 20,), np.dtype(np.float32)).flags.owndata


def test_without_glibc_every_thread_of_a_team_uses_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_mallopt", lambda: None)
    with platform.kept_memory(), Team(3) as team:
        assert team.run([is_pooled] * 3) == [True] * 3
    assert not is_pooled()


def test_with_glibc_its_setting_is_held_until_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(platform, "_mallopt", lambda: lambda option, value: calls.append((option, value)))
    with platform.kept_memory():
        raised = list(calls)
        with platform.kept_memory():
            assert not is_pooled()
        assert calls == raised
    assert [option for option, _ in calls] == [option for option, _ in raised] * 2
    assert all(value > before for (_, before), (_, value) in zip(calls[2:], raised, strict=True))
