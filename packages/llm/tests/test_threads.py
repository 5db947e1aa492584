"""Teams of threads: every part ends before the caller goes on, whatever it raises."""

import sys
import threading
import time
from functools import partial

import pytest

from axone.llm.runtime.threads import ThreadGroup


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("axone-worker")]


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_a_part_raises_comes_when_all_have_ended(kind: type[BaseException], where: int) -> None:
    ended: list[int] = []

    def part(number: int) -> int:
        if number == where:
            raise kind
        time.sleep(0.02)
        ended.append(number)
        return number

    with ThreadGroup(3) as group:
        with pytest.raises(kind):
            group.run([partial(part, number) for number in range(3)])
        assert sorted(ended) == [number for number in range(3) if number != where]
        assert group.run([lambda: "a", lambda: "b", lambda: "c"]) == ["a", "b", "c"]
    assert not threads()


def test_an_outcome_that_nobody_awaited_is_not_taken_for_another() -> None:
    with ThreadGroup(2) as group:
        group._workers[0].submit(lambda: "old")  # as a caller leaves it that is interrupted while it waits
        assert group.run([lambda: "a", lambda: "b"]) == ["a", "b"]


def test_a_team_that_the_system_has_no_threads_for_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.endswith("-2"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="new thread"), ThreadGroup(4):
        sys.exit("never reached")
    assert not threads()
