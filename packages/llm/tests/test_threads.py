"""Thread groups: all tasks end before `run` returns, whatever they raise."""

import sys
import threading
import time
from functools import partial

import pytest

from axone.llm import WorkerError
from axone.llm.runtime.threads import ThreadGroup


def worker_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("axone-worker")]


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_error_of_a_task_is_raised_when_all_tasks_have_ended(kind: type[BaseException], failing: int) -> None:
    ended: list[int] = []

    def task(rank: int) -> int:
        if rank == failing:
            raise kind
        time.sleep(0.02)
        ended.append(rank)
        return rank

    with ThreadGroup(3) as group:
        with pytest.raises(kind):
            group.run([partial(task, rank) for rank in range(3)])
        assert sorted(ended) == [rank for rank in range(3) if rank != failing]
        assert group.run([lambda: "a", lambda: "b", lambda: "c"]) == ["a", "b", "c"]
    assert not worker_threads()


def test_abandoned_result_is_not_returned_for_a_later_task() -> None:
    with ThreadGroup(2) as group:
        group._workers[0].submit(lambda: "old")  # as after a KeyboardInterrupt in `run`
        assert group.run([lambda: "a", lambda: "b"]) == ["a", "b"]


def test_refused_thread_leaves_no_other_thread_and_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse_second(thread: threading.Thread) -> None:
        if thread.name.endswith("-2"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_second)
    sentence = "cannot start 4 threads, because the system refuses more than 2: use fewer workers"
    with pytest.raises(WorkerError, match=f"^{sentence}$"), ThreadGroup(4):
        sys.exit("never reached")
    assert not worker_threads()
