"""Forked processes: they compute the bits of threads, never outlive rank 0, and never end unnoticed."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import detect_anomaly, profile
from axone.llm import LanguageModel, TokenDataset, Trainer, TrainerConfig
from axone.llm.runtime import processes, resources
from axone.llm.runtime.collectives import collective
from axone.llm.runtime.connection import Connection
from axone.llm.runtime.processes import ProcessGroup, can_fork, shared_zeros

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
HERE = os.getpid()
TESTS = Path(__file__).parent


class Program:
    """Program that counts in a shared array; each task can be made to fail."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.group = ProcessGroup(world_size)
        self.counts = shared_zeros(world_size, np.int64)
        self.kept = 0  # private to each process

    @collective
    def count(self, by: int) -> list[Any]:
        self.kept += by

        def task(rank: int) -> list[float]:
            self.counts[rank] += by
            return [os.getpid(), float(self.kept), 0.1 + by]

        return self.group.run([lambda rank=rank: task(rank) for rank in range(self.world_size)])  # type: ignore[misc]  # bound here

    @collective
    def fail(self, error: str) -> list[Any]:
        errors: dict[str, Exception] = {
            "file": FileNotFoundError(2, "No such file", "x"),
            "key": KeyError("x"),
            "value": ValueError("not a number"),
        }

        def task() -> None:
            if os.getpid() != HERE:
                raise errors[error]

        return self.group.run([task] * self.world_size)

    @collective
    def stop(self) -> list[bool]:
        here = os.getpid() == HERE
        self.group.run([lambda: self.group.any(lambda: here)] * self.world_size)
        return self.group.run([lambda: self.group.any(lambda: False)] * self.world_size)

    @collective
    def sleep(self, seconds: float) -> list[None]:
        return self.group.run([lambda: time.sleep(seconds)] * self.world_size)


def test_each_rank_runs_its_task_and_gathers_all_results() -> None:
    program = Program(3)
    with program.group:
        program.count(2)
        results = program.count(5)
    assert [kept for _, kept, _ in results] == [7.0, 7.0, 7.0]
    assert [number for _, _, number in results] == [5.1, 5.1, 5.1]
    assert len({process for process, _, _ in results}) == 3
    assert results[0][0] == HERE
    np.testing.assert_array_equal(program.counts, [7, 7, 7])


def test_private_memory_of_other_ranks_is_counted_without_shared_memory() -> None:
    size = 1 << 25

    class Holder:
        def __init__(self) -> None:
            self.group = ProcessGroup(2)
            self.kept = np.ones(size, np.uint8)  # shared until it is written to

        @collective
        def hold(self) -> list[None]:
            return self.group.run([lambda: None, lambda: self.kept.fill(2)])

        @collective
        def start(self) -> None:
            self.group.run([lambda: None] * 2)

    holder = Holder()
    with holder.group:
        holder.start()
        before = holder.group.private_memory()
        holder.hold()
        after = holder.group.private_memory()
    assert before < size
    if can_fork():
        assert after >= before + size


def test_memory_estimate_counts_every_process(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainerConfig(steps=2, batch_size=4, context_length=16, workers=3)
    monkeypatch.setattr(resources, "peak_memory", lambda: 1 << 40)
    monkeypatch.setattr(resources, "private_memory", lambda _: 1 << 30)
    estimate = Trainer(model, *dataset.split(), config).estimate()
    assert estimate.memory == (1 << 40) + (2 << 30) * can_fork()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("file", FileNotFoundError, r"\[Errno 2\] No such file: 'x'"),
        ("key", LookupError, "'x'"),
        ("value", ValueError, "not a number"),
    ],
)
def test_error_of_another_rank_keeps_its_message_and_ends_all_processes(
    error: str, kind: type[Exception], message: str
) -> None:
    program = Program(2)
    with program.group:
        before = program.count(1)
        with pytest.raises(kind, match=f"^{message}$"):
            program.fail(error)
        assert_gone(before[1][0])
        assert program.count(1)[1][0] != before[1][0]  # a new process


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGKILL, "was killed by SIGKILL, perhaps because memory is exhausted: use fewer workers"),
        (signal.SIGUSR1, "was killed by SIGUSR1"),
    ],
)
def test_killed_process_is_named_with_its_signal(number: signal.Signals, cause: str) -> None:
    program = Program(2)
    with program.group:
        process = program.count(1)[1][0]
        os.kill(process, number)
        with pytest.raises(ChildProcessError, match=f"^worker process {process} {cause}$"):
            program.count(1)
        assert program.count(1)[0][0] == HERE  # a new process takes its place


def test_process_that_exits_is_named_with_its_status() -> None:
    class Leaver:
        def __init__(self) -> None:
            self.group = ProcessGroup(2)

        @collective
        def leave(self) -> None:
            self.group.run([lambda: None, lambda: os._exit(3)])

    leaver = Leaver()
    with leaver.group, pytest.raises(ChildProcessError, match=r"^worker process \d+ exited with status 3$"):
        leaver.leave()


def test_worker_killed_in_the_estimate_does_not_advise_to_resume_a_run(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    monkeypatch.setattr("axone.llm.runtime.data_parallel.can_fork", lambda: True)
    receive = Connection.receive

    def kill_first(self: Connection) -> Any:
        if os.getpid() == HERE:
            os.kill(forked[0], signal.SIGKILL)
        return receive(self)

    monkeypatch.setattr(Connection, "receive", kill_first)
    config = TrainerConfig(steps=2, batch_size=4, context_length=16, workers=2)
    with pytest.raises(ChildProcessError, match=r"^worker process \d+ was killed by SIGKILL") as error:
        Trainer(model, *dataset.split(), config).estimate()
    assert "resume" not in str(error.value)


def test_rank_0_alone_handles_signals() -> None:
    program = Program(2)
    with program.group:
        process = program.count(1)[1][0]
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process, number)
        assert program.count(1)[1][0] == process
    assert_gone(process)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of the processes that are forked."""
    ids: list[int] = []
    fork = os.fork

    def spy() -> int:
        ids.append(fork())
        return ids[-1]

    monkeypatch.setattr(os, "fork", spy)
    return ids


@pytest.mark.parametrize("receiver", ["parent", "child"])
def test_interrupt_during_a_fork_leaves_no_process(receiver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, forked = os.fork, list[int]()

    def interrupted() -> int:
        forked.append(fork())
        if (forked[-1] == 0) == (receiver == "child"):
            os.kill(os.getpid(), signal.SIGINT)
        return forked[-1]

    monkeypatch.setattr(os, "fork", interrupted)
    program = Program(2)
    with program.group:
        if receiver == "parent":
            with pytest.raises(KeyboardInterrupt):
                program.count(1)
        else:
            assert program.count(1)[1][0] == forked[0]
    assert_gone(forked[0])


@pytest.fixture
def alarm() -> Iterator[None]:
    """Time limit for a test that could wait for a process forever."""

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("moment", ["close", "wait"])
@pytest.mark.parametrize("number", [1, 2])
def test_interrupt_during_the_shutdown_leaves_no_process(
    moment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(3)
    forked = [part[0] for part in program.count(1)[1:]]
    os.kill(forked[number - 1], signal.SIGSTOP)  # it does not end by itself
    calls, end = list[object](), getattr(Connection, moment)

    def interrupted(peer: Connection) -> None:
        calls.append(peer)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        end(peer)

    monkeypatch.setattr(Connection, moment, interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        program.group.close()
    assert signal.getsignal(signal.SIGINT) is handler
    for process in forked:
        assert_gone(process)
    monkeypatch.undo()
    with program.group:  # it can fork again
        assert len(program.count(1)) == 3


@pytest.mark.usefixtures("alarm")
def test_interrupt_at_the_first_line_of_the_shutdown_leaves_no_process() -> None:
    """A KeyboardInterrupt can arrive before `__exit__` does anything: the group then ends with its last reference."""

    class Interrupted(ProcessGroup):
        def __exit__(self, *_: object) -> None:
            raise KeyboardInterrupt

    program = Program(2)
    program.group = Interrupted(2)
    process = 0
    try:
        with program.group:
            process = program.count(1)[1][0]
    except KeyboardInterrupt:
        pass
    del program
    assert_gone(process)


def test_forked_process_frees_inherited_objects_silently(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda what: os.write(2, str(what.exc_value).encode()))
    with Program(3).group as group:
        group.start(None)
    assert capfd.readouterr().err == ""


def test_condition_of_one_rank_holds_in_all() -> None:
    program = Program(2)
    with program.group:
        assert program.stop() == [True, True]


def test_no_process_outlives_rank_0() -> None:
    script = "import test_processes as t, time; p = t.Program(2); print(p.count(1)[1][0], flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=TESTS) as first:
        assert first.stdout is not None
        assert int(first.stdout.readline()) != first.pid
        first.kill()
        assert_all_end(first, 30)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no PR_SET_PDEATHSIG")
def test_worker_amid_a_long_task_ends_within_a_second_of_a_killed_parent() -> None:
    script = "import test_processes as t; p = t.Program(2); print(p.count(1)[1][0], flush=True); p.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=TESTS) as first:
        assert first.stdout is not None
        first.stdout.readline()
        time.sleep(0.2)  # until both sleep
        first.kill()
        assert_all_end(first, 1)


def assert_all_end(first: subprocess.Popen[bytes], seconds: float) -> None:
    """Check that all processes that inherited the output of the first one end."""
    assert first.stdout is not None
    assert select.select([first.stdout], [], [], seconds)[0]  # readable at the end of the last writer
    assert first.stdout.read() == b""


def test_worker_whose_parent_died_before_it_could_ask_for_the_signal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_prctl", lambda: lambda *_: 0)
    child = os.fork()
    if not child:
        processes._end_with(os.getppid() + 1)  # as if another process had adopted it
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_system_without_death_signals_starts_workers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_prctl", lambda: None)
    program = Program(2)
    with program.group:
        assert len(program.count(1)) == 2


def test_it_forks_only_without_threads_and_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert can_fork()
    for watcher in (profile(), detect_anomaly()):
        with watcher:
            assert not can_fork()
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not can_fork()
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_fork()


def test_refused_fork_leaves_no_process_and_no_socket(monkeypatch: pytest.MonkeyPatch, forked: list[int]) -> None:
    fork = os.fork

    def refuse_second() -> int:
        if forked:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse_second)
    pairs, open_pair = list[socket.socket](), socket.socketpair

    def spy() -> tuple[socket.socket, socket.socket]:
        pairs.extend(pair := open_pair())
        return pair

    monkeypatch.setattr(socket, "socketpair", spy)
    group = ProcessGroup(3)
    with pytest.raises(BlockingIOError):
        group.start(None)
    assert_gone(forked[0])
    assert [end.fileno() for end in pairs] == [-1] * 4


def test_refused_shared_memory_is_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError, match=r"^4000 bytes of shared memory are not available$"):
        shared_zeros(1000, np.float32)


def assert_gone(process: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
