"""Collectives: calls that all ranks make, and the all-gather over shared memory."""

import os
import platform
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from axone.llm.runtime import collectives
from axone.llm.runtime.collectives import SharedAllGather, can_all_gather, collective
from axone.llm.runtime.processes import ProcessGroup, shared_zeros
from axone.llm.runtime.threads import ThreadGroup

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="elsewhere no process is forked"
)
HERE = os.getpid()


class Calls:
    """Program whose collective method returns its arguments."""

    def __init__(self, group: ProcessGroup | ThreadGroup) -> None:
        self.group = group

    @collective
    def arguments(self, number: float, values: Any, *, own: str = "default") -> list[list[Any]]:
        """Docstring of the method."""

        def task() -> list[Any]:
            kind = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            return [number, kind, own, os.getpid() == HERE]

        return self.group.run([task, task])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "list"),
        (np.arange(6, dtype=np.int32).reshape(2, 3), "int32 (2, 3)"),
        (np.zeros((0, 4)), "float64 (0, 4)"),
        ({"dtype": "a field"}, "dict"),
        (None, "NoneType"),
    ],
)
def test_positional_arguments_are_broadcast_and_keyword_arguments_are_not(values: Any, kind: str) -> None:
    with ProcessGroup(2) as group:
        assert Calls(group).arguments(0.1, values, own="own") == [
            [0.1, kind, "own", True],
            [0.1, kind, "default", False],
        ]
    with ThreadGroup(2) as group:
        assert Calls(group).arguments(0.1, values, own="own") == [[0.1, kind, "own", True]] * 2


def test_collective_method_keeps_its_name_and_docstring() -> None:
    assert (Calls.arguments.__name__, Calls.arguments.__doc__) == ("arguments", "Docstring of the method.")


def test_all_gather_needs_a_process_without_threads_on_a_processor_with_ordered_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert can_all_gather()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not can_all_gather()
    monkeypatch.undo()
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not can_all_gather()


def test_shards_cover_all_elements_evenly() -> None:
    for world_size in (1, 2, 3):
        group = ProcessGroup(world_size)
        all_gather = SharedAllGather(group, 1, np.float32)
        for total in (3, 7, 50_257):
            shards = []
            for group.rank in range(world_size):
                shards += [all_gather.shard(total)]
            assert [at for shard in shards for at in range(shard.start, shard.stop)] == list(range(total))
            sizes = [shard.stop - shard.start for shard in shards]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("total", "width"), [(3, 1), (768, 768), (3072, 768), (768, 3072), (50_257, 768)])
def test_every_rank_may_claim_every_chunk_its_own_first(total: int, width: int) -> None:
    for world_size in (1, 2, 3):
        group = ProcessGroup(world_size)
        all_gather = SharedAllGather(group, 1, np.float32)
        for group.rank in range(world_size):
            chunks = all_gather.chunks(total, width)
            own, rows = all_gather.shard(total), dict(chunks)
            assert sorted(at for chunk in rows.values() for at in range(chunk.start, chunk.stop)) == list(range(total))
            assert len(rows) == len(chunks)
            assert chunks[0][1].start == own.start
            first = [chunk for _, chunk in chunks if own.start <= chunk.start < own.stop]
            assert first == [chunk for _, chunk in chunks[: len(first)]] == sorted(first, key=lambda c: c.start)
            all_gather.buffer(1)
            assert [all_gather.claim(number) for number, _ in chunks] == [True] * len(chunks)
            assert not any(all_gather.claim(number) for number, _ in chunks)


class Squares:
    """Program that computes the squares of many numbers, a chunk at a time, round after round."""

    def __init__(self, world_size: int, total: int, *, slow: int = -1, dying: int = -1) -> None:
        self.group = ProcessGroup(world_size)
        self.all_gather = SharedAllGather(self.group, total, np.float64)
        self.total, self.slow, self.dying = total, slow, dying
        self.computed_by = shared_zeros(total, np.int64)
        self.computed_by[:] = -1

    @collective
    def compute(self, rounds: int) -> list[list[float]]:
        chunks = self.all_gather.chunks(self.total, 1)
        gathered = []
        for turn in range(rounds):
            squares = self.all_gather.buffer(self.total)
            for number, rows in chunks:
                while self.group.rank == self.slow and -1 in self.computed_by:
                    time.sleep(0.001)
                if self.all_gather.claim(number):
                    squares[rows] = (np.arange(rows.start, rows.stop) + turn) ** 2
                    self.computed_by[rows] = self.group.rank
            if self.group.rank == self.dying:
                os.kill(os.getpid(), signal.SIGKILL)
            gathered.append(self.all_gather.gather(squares).tolist())
        return gathered


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_rank_reads_the_slices_of_all_ranks_in_every_round(world_size: int) -> None:
    program = Squares(world_size, 50)
    with program.group:
        expected = [[float((at + turn) ** 2) for at in range(50)] for turn in range(40)]
        assert program.compute(40) == expected


def test_idle_ranks_steal_unclaimed_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "_CHUNK", 1)
    program = Squares(2, 64, slow=1)
    with program.group:
        assert program.compute(1) == [[float(at**2) for at in range(64)]]
    assert (program.computed_by == 0).all()


@pytest.mark.parametrize("seconds", [0.0005, 0.05])
def test_late_rank_is_waited_for(seconds: float) -> None:
    class Late(Squares):
        @collective
        def compute(self, rounds: int) -> list[list[float]]:
            gathered = []
            for turn in range(rounds):
                if turn % 2 == self.group.rank:
                    time.sleep(seconds)
                vector = self.all_gather.buffer(2)
                vector[self.group.rank] = turn
                gathered.append(self.all_gather.gather(vector).tolist())
            return gathered

    program = Late(2, 2)
    with program.group:
        assert program.compute(6) == [[turn, turn] for turn in range(6)]


def test_rank_that_is_killed_ends_the_all_gather_of_the_others() -> None:
    program = Squares(2, 4, dying=1)
    with program.group, pytest.raises(ChildProcessError, match=r"^worker process \d+ was killed by SIGKILL"):
        program.compute(2)
