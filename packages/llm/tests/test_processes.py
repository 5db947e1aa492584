"""Forked processes: they compute what threads compute, to the bit, and never outlive or silently leave each other."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import profile
from axone.llm import (
    Callback,
    LanguageModel,
    LanguageModelConfig,
    Step,
    TokenDataset,
    Trainer,
    TrainerConfig,
)
from axone.llm.checkpoints.run import Run
from axone.llm.runtime import data_parallel, resources
from axone.llm.runtime.collectives import collective
from axone.llm.runtime.processes import ProcessGroup, _Peer, can_fork, shared_zeros

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
HERE = os.getpid()


class Program:
    """Counts in an array that all share; each part can be made to fail."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.group = ProcessGroup(size)
        self.counts = shared_zeros(size, np.int64)
        self.kept = 0  # private to each process

    @collective
    def count(self, by: int) -> list[Any]:
        self.kept += by

        def part(number: int) -> list[float]:
            self.counts[number] += by
            return [os.getpid(), float(self.kept), 0.1 + by]

        return self.group.run([lambda number=number: part(number) for number in range(self.size)])  # type: ignore[misc]  # bound here

    @collective
    def fail(self, error: str) -> list[Any]:
        errors: dict[str, Exception] = {
            "file": FileNotFoundError(2, "No such file", "x"),
            "key": KeyError("x"),
            "value": ValueError("no number"),
        }

        def part() -> None:
            if os.getpid() != HERE:
                raise errors[error]

        return self.group.run([part] * self.size)

    @collective
    def stop(self) -> list[bool]:
        here = os.getpid() == HERE
        self.group.run([lambda: self.group.any(lambda: here)] * self.size)
        return self.group.run([lambda: self.group.any(lambda: False)] * self.size)


def test_each_process_does_its_part_and_all_know_the_results() -> None:
    program = Program(3)
    with program.group:
        program.count(2)
        results = program.count(5)
    assert [kept for _, kept, _ in results] == [7.0, 7.0, 7.0]
    assert [number for _, _, number in results] == [5.1, 5.1, 5.1]
    assert len({process for process, _, _ in results}) == 3
    assert results[0][0] == HERE
    np.testing.assert_array_equal(program.counts, [7, 7, 7])


def test_what_the_others_hold_alone_is_counted_and_what_they_share_is_not() -> None:
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


def test_the_estimate_counts_every_process(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainerConfig(steps=2, batch_size=4, context_length=16, workers=3)
    monkeypatch.setattr(resources, "peak_memory", lambda: 1 << 40)
    monkeypatch.setattr(data_parallel, "peak_memory", lambda: 1 << 40)
    monkeypatch.setattr(resources, "private_memory", lambda _: 1 << 30)
    estimate = Trainer(model, *dataset.split(), config).estimate()
    assert estimate.memory == (1 << 40) + (2 << 30) * can_fork()


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        ("file", FileNotFoundError, r"\[Errno 2\] No such file: 'x'"),
        ("key", LookupError, "'x'"),
        ("value", ValueError, "no number"),
    ],
)
def test_an_error_arrives_with_its_sentence_and_ends_the_processes(
    error: str, kind: type[Exception], sentence: str
) -> None:
    program = Program(2)
    with program.group:
        before = program.count(1)
        with pytest.raises(kind, match=f"^{sentence}$"):
            program.fail(error)
        assert_gone(before[1][0])
        assert program.count(1)[1][0] != before[1][0]  # others are forked


def test_a_process_that_is_killed_is_told() -> None:
    program = Program(2)
    with program.group:
        os.kill(program.count(1)[1][0], signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"all worker processes are needed, and process \d+ has ended"):
            program.count(1)


def test_signals_are_the_first_process_s_to_handle() -> None:
    program = Program(2)
    with program.group:
        process = program.count(1)[1][0]
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process, number)
        assert program.count(1)[1][0] == process
    assert_gone(process)


@pytest.mark.parametrize("where", ["here", "there"])
def test_an_interrupt_while_processes_are_forked_leaves_none_behind(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forked = os.fork, list[int]()

    def interrupted() -> int:
        forked.append(fork())
        if (forked[-1] == 0) == (where == "there"):
            os.kill(os.getpid(), signal.SIGINT)
        return forked[-1]

    monkeypatch.setattr(os, "fork", interrupted)
    program = Program(2)
    with program.group:
        if where == "here":
            with pytest.raises(KeyboardInterrupt):
                program.count(1)
        else:
            assert program.count(1)[1][0] == forked[0]
    assert_gone(forked[0])


@pytest.fixture
def alarm() -> Iterator[None]:
    """Let nothing wait for a process that does not end."""

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
def test_an_interrupt_while_processes_are_ended_leaves_none_behind(
    moment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(3)
    forked = [part[0] for part in program.count(1)[1:]]
    os.kill(forked[0], signal.SIGSTOP)  # it would not end by itself
    calls, end = list[object](), getattr(_Peer, moment)

    def interrupted(peer: _Peer) -> None:
        calls.append(peer)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        end(peer)

    monkeypatch.setattr(_Peer, moment, interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        program.group.close()
    assert signal.getsignal(signal.SIGINT) is handler
    for process in forked:
        assert_gone(process)
    monkeypatch.undo()
    with program.group:  # others may be forked
        assert len(program.count(1)) == 3


def test_forked_processes_let_go_of_what_is_not_theirs_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda what: os.write(2, str(what.exc_value).encode()))
    with Program(3).group as group:
        group.start(None)
    assert capfd.readouterr().err == ""


def test_all_hear_who_stops() -> None:
    program = Program(2)
    with program.group:
        assert program.stop() == [True, True]


def test_no_process_outlives_the_first() -> None:
    script = "import test_processes as t, time; p = t.Program(2); print(p.count(1)[1][0], flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parent) as first:
        assert first.stdout is not None
        assert int(first.stdout.readline()) != first.pid
        first.kill()
        assert select.select([first.stdout], [], [], 30)[0]  # its end is seen when all who could write have gone
        assert first.stdout.read() == b""


def test_it_forks_only_where_it_is_alone_and_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert can_fork()
    with profile():
        assert not can_fork()
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not can_fork()
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_fork()


class Losses(Callback):
    """Keeps every step's loss and norm."""

    def __init__(self) -> None:
        self.numbers: list[tuple[float, float]] = []

    def on_step(self, event: Step) -> None:
        self.numbers.append((event.loss, event.gradient_norm))


def test_a_run_whose_process_is_killed_goes_on_from_its_checkpoint(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[int] = []
    fork = os.fork

    def spy() -> int:
        forked.append(fork())
        return forked[-1]

    class Killer(Callback):
        def on_step(self, event: Step) -> None:
            if event.step == 4:
                os.kill(forked[-1], signal.SIGKILL)

    monkeypatch.setattr(os, "fork", spy)
    monkeypatch.setattr(data_parallel, "can_fork", lambda: True)
    plan = TrainerConfig(steps=6, batch_size=4, context_length=16, workers=2, eval_every=3)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    trainer = Trainer(model, *dataset.split(), plan, [Killer()], run=tmp_path / "run")
    with pytest.raises(OSError, match=r"all worker processes are needed, and process \d+ has ended"):
        trainer.fit()
    assert Run(tmp_path / "run").latest().training_state().step == 3
    assert Trainer.resume(tmp_path / "run").fit().outcome == "finished"


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_training_has_the_bits_of_threads(
    config: LanguageModelConfig,
    dataset: TokenDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Any,
) -> None:
    told: list[str] = []
    broadcast_call = ProcessGroup.broadcast_call

    def spy(self: ProcessGroup, program: object, method: str, *arguments: object) -> None:
        told.append(method)
        broadcast_call(self, program, method, *arguments)

    monkeypatch.setattr(ProcessGroup, "broadcast_call", spy)
    dropped = replace(config, dropout=0.1)
    plan = TrainerConfig(
        steps=6,
        batch_size=5,
        context_length=16,
        optimizer=optimizer,
        workers=2,
        gradient_accumulation_steps=2,
        eval_every=3,
    )
    found = []
    for forks in (False, True):
        monkeypatch.setattr(data_parallel, "can_fork", lambda forks=forks: forks)
        losses, run = Losses(), tmp_path / str(forks)
        model = LanguageModel(dropped, rng=np.random.default_rng(0))
        Trainer(model, *dataset.split(), plan, [losses], run=run).fit()
        checkpoint = Run(run).latest()
        moments = {name: array.tobytes() for name, array in checkpoint.optimizer_state().items()}
        weights = {name: array.tobytes() for name, array in model.state_dict().items()}
        found.append((losses.numbers, checkpoint.training_state().latest_loss, moments, weights))
        assert bool(told) == forks
    assert found[0] == found[1]


def assert_gone(process: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
