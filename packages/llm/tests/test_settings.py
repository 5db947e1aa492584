"""Settings of the process: each is restored by the last holder, in whatever order holders come and go."""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.autograd.extend import empty
from axone.llm import generate
from axone.llm.model import LanguageModel
from axone.llm.runtime import settings
from axone.llm.runtime.resources import environment
from axone.llm.runtime.settings import CpuAffinity, _SharedSetting, blas_threads
from axone.llm.runtime.threads import ThreadGroup

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has CPU affinity")


def is_pooled() -> bool:
    return not empty((1 << 20,), np.dtype(np.float32)).flags.owndata


@pytest.fixture
def mallopt(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Calls of a mallopt that accepts everything."""
    calls: list[tuple[int, int]] = []

    def accept(option: int, value: int) -> int:
        calls.append((option, value))
        return 1

    monkeypatch.setattr(settings, "_mallopt", lambda: accept)
    return calls


def test_without_glibc_every_thread_of_a_group_reuses_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_mallopt", lambda: None)
    with settings.kept_memory(), ThreadGroup(3) as group:
        assert group.run([is_pooled] * 3) == [True] * 3
    with settings.adapted_memory():
        assert is_pooled()
    assert not is_pooled()


def test_with_glibc_the_last_holder_restores_the_thresholds(mallopt: list[tuple[int, int]]) -> None:
    first, second = settings.kept_memory(), settings.kept_memory()
    first.__enter__()
    raised = list(mallopt)
    second.__enter__()
    assert not is_pooled()
    first.__exit__(None, None, None)
    assert mallopt == raised
    second.__exit__(None, None, None)
    assert [option for option, _ in mallopt] == [option for option, _ in raised] * 2
    assert all(value > restored for (_, restored), (_, value) in zip(mallopt[2:], raised, strict=True))


def test_old_glibc_that_refuses_a_large_threshold_gets_the_largest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: dict[int, int] = {}

    def refuse_large(option: int, value: int) -> int:  # as glibc 2.34 does
        if option == settings._M_MMAP_THRESHOLD and value > 1 << 25:
            return 0
        accepted[option] = value
        return 1

    monkeypatch.setattr(settings, "_mallopt", lambda: refuse_large)
    with settings.kept_memory():
        assert accepted[settings._M_MMAP_THRESHOLD] == 1 << 25


def test_unfinished_generator_holds_no_setting_of_the_process(
    model: LanguageModel, mallopt: list[tuple[int, int]]
) -> None:
    before = environment()
    tokens = generate(model, [1], max_new_tokens=5)
    next(tokens)
    assert mallopt == []
    assert environment() == before
    del tokens


@pytest.mark.skipif(settings._mallopt() is None, reason="other C libraries have no mallopt")
def test_allocation_after_the_last_holder_maps_no_fresh_memory() -> None:
    """An array of 4 MiB stays in the process when it is freed, as in one that never called mallopt."""
    import resource

    with settings.kept_memory():
        pass
    with ThreadPoolExecutor(1) as pool:  # an arena of its own

        def page_faults() -> int:
            np.ones(1 << 20, np.float32)
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            for _ in range(20):
                np.ones(1 << 20, np.float32)
            return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

        assert pool.submit(page_faults).result() < 20


class Recorded:
    """A setting of the process that can be read, for tests of `_SharedSetting`."""

    def __init__(self) -> None:
        self.state = 8
        self.writes = 0
        self.setting: _SharedSetting[int, int] = _SharedSetting(lambda: self.state, self.write, min)

    def write(self, state: int) -> None:
        self.state = state
        self.writes += 1


# (holder, thread, limit): the holder enters with the limit if it is outside, otherwise it leaves, in one of two threads
MOVES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 9)), max_size=30)


@given(moves=MOVES)
def test_setting_is_restored_after_any_order_of_overlapping_holders(moves: list[tuple[int, int, int]]) -> None:
    recorded, inside, limits = Recorded(), dict[int, AbstractContextManager[None]](), dict[int, int]()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:

        def move(holder: int, thread: int, limit: int) -> None:
            pool = (first, second)[thread]
            if holder in inside:
                del limits[holder]
                pool.submit(inside.pop(holder).__exit__, None, None, None).result()
            else:
                limits[holder] = limit
                inside[holder] = recorded.setting.hold(limit)
                pool.submit(inside[holder].__enter__).result()

        for step in moves:
            move(*step)
            assert recorded.state == min(limits.values(), default=8)
        for holder in list(inside):
            move(holder, 1, 0)
    assert recorded.state == 8


def test_holders_in_many_threads_at_once_leave_the_original_state() -> None:
    recorded = Recorded()

    def hold(limit: int) -> None:
        for _ in range(300):
            with recorded.setting.hold(limit), recorded.setting.hold(limit + 1):
                assert recorded.state <= limit

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(hold, limit) for limit in (1, 2, 3, 4)]:
            done.result()
    assert recorded.state == 8


def test_two_trainings_that_overlap_leave_the_blas_threads_as_they_were() -> None:
    before = environment()["blas_threads"]
    training, generation = blas_threads(1), blas_threads(1)
    training.__enter__()
    generation.__enter__()
    training.__exit__(None, None, None)
    assert environment()["blas_threads"] in ([1], [])
    generation.__exit__(None, None, None)
    assert environment()["blas_threads"] == before


def test_smallest_limit_of_blas_threads_applies() -> None:
    with blas_threads(2), blas_threads(None):
        assert environment()["blas_threads"] in ([2], [])
        with blas_threads(1), blas_threads(2):
            assert environment()["blas_threads"] in ([1], [])
        assert environment()["blas_threads"] in ([2], [])


def test_holder_that_the_garbage_collector_ends_inside_a_change_does_not_block() -> None:
    recorded = Recorded()
    cycle: dict[str, Any] = {"holder": recorded.setting.hold(3)}
    cycle["holder"].__enter__()
    cycle["self"] = cycle
    combine = recorded.setting._combine

    def collect(limits: list[int]) -> int:
        cycle.clear()
        gc.collect()
        return combine(limits)

    recorded.setting._combine = collect
    with recorded.setting.hold(5):
        assert recorded.state == 5
    assert recorded.state == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_fork_while_a_thread_changes_a_setting_does_not_block_the_child() -> None:
    recorded, entered, leave = Recorded(), threading.Event(), threading.Event()

    def change() -> None:
        with recorded.setting._lock:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=change)
    thread.start()
    entered.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        with recorded.setting.hold(2):
            os._exit(0)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def interrupted_everywhere(use: Callable[[], None], is_restored: Callable[[], bool]) -> None:
    """Check that a setting is restored wherever a KeyboardInterrupt arrives in its code, or in contextlib's."""
    files = {settings.__file__, contextlib.__file__}
    reached, last = 0, 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal reached
        if frame.f_code.co_filename in files and event in {"call", "line"}:
            reached += 1
            if reached == last:
                raise KeyboardInterrupt
        return trace

    while reached == last:
        reached, last = 0, last + 1
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            use()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert is_restored(), f"after an interrupt at event {last}"
    assert last > 10


def test_interrupt_at_any_line_leaves_the_setting_restored() -> None:
    recorded = Recorded()

    def use() -> None:
        with recorded.setting.hold(2):
            pass

    interrupted_everywhere(use, lambda: recorded.state == 8 and not recorded.setting._values)


@needs_affinity
def test_interrupt_at_any_line_leaves_the_process_on_all_cores() -> None:
    before = os.sched_getaffinity(0)

    def use() -> None:
        affinity = CpuAffinity({min(before)})
        try:
            with affinity:
                pass
        except KeyboardInterrupt:
            affinity.restore()
            raise

    interrupted_everywhere(use, lambda: os.sched_getaffinity(0) == before)


@needs_affinity
def test_affinity_is_restored_for_the_thread_that_was_pinned() -> None:
    before, core = os.sched_getaffinity(0), {min(os.sched_getaffinity(0))}
    with ExitStack() as stack, CpuAffinity(None):
        affinity = stack.enter_context(CpuAffinity(core))
        assert os.sched_getaffinity(0) == core
        with ThreadPoolExecutor(1) as pool:
            pool.submit(affinity.restore).result()
        assert os.sched_getaffinity(0) == before
