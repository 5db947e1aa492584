"""Several ranks over MPI: the same training as one rank, failures without a hang, and resumption.

The jobs are those of `reliability/tiny_ranks.py`. Most scenarios share one job, because a start takes a second or two.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
import tiny_ranks
from two_ranks import NoMPIError, launcher

from axone.llm import Run, Trainer
from axone.llm.distributed import SingleProcess, in_turn, launched_rank, run_together, together, workers_per_rank, world
from axone.llm.distributed.mpi import MPICommunicator
from axone.llm.errors import LaunchError, MissingDependencyError
from axone.llm.runtime.processes import can_fork
from axone.llm.storage.safetensors import ArrayFile

PROGRAM = str(Path(tiny_ranks.__file__))
SCENARIOS = (
    "collectives", "adamw", "random", "sharded", "resumed", "left_unfinished", "continued", "stopped_evaluation",
    "disturbed_for_long", "errors",
)  # fmt: skip
LONGEST = 300  # seconds until a job counts as hanging

Launch: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]
Found: TypeAlias = dict[str, Any]


def close(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) == len(second) and all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(first, second))


@pytest.fixture(scope="module")
def launch() -> Launch:
    """Return a function that runs a program on two ranks."""
    try:
        two_ranks = launcher()
    except NoMPIError as error:
        pytest.skip(str(error))

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [*two_ranks, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)

    return run


@pytest.fixture(scope="module")
def folder(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a job that has run all scenarios that end."""
    folder = tmp_path_factory.mktemp("ranks")
    stop = tiny_ranks.Losses(5, lambda: os.kill(os.getpid(), 15))
    tiny_ranks.trainer(replace(tiny_ranks.CONFIG, steps=12), [stop], run=folder / "alone").fit()
    done = launch(PROGRAM, folder, *SCENARIOS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in SCENARIOS}


def test_collective_operations_give_the_same_values_in_all_ranks(found: Found) -> None:
    values = found["collectives"]
    assert values.pop("broadcast") == [0, "x" * 1000, None, [1.5, {"a": 0}]]
    assert values.pop("gathered") == [[0, 1], ["", "y" * 300]]
    assert values.pop("workers") == workers_per_rank(SingleProcess()) // 2 or 1
    assert all(values.values())


def test_two_ranks_train_like_one_rank_with_twofold_accumulation(found: Found) -> None:
    alone = tiny_ranks.single(batch_size=4, gradient_accumulation_steps=2)
    assert len(alone["losses"]) == 50
    assert close(alone["losses"], found["adamw"]["first"]["losses"])
    assert math.isclose(alone["validation_loss"], found["adamw"]["first"]["validation_loss"], rel_tol=1e-5)


def test_a_repeated_job_has_the_same_bits(found: Found) -> None:
    assert found["adamw"]["first"] == found["adamw"]["second"]


def test_two_ranks_of_two_workers_train_like_four_workers(found: Found) -> None:
    alone = tiny_ranks.train(SingleProcess(), replace(tiny_ranks.CONFIG, sampling="random", workers=4), dropout=0.1)
    assert close(alone["losses"], found["random"]["losses"])


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_shards_of_the_optimizer_change_neither_training_nor_files(found: Found, folder: Path, optimizer: str) -> None:
    whole, shards = (found["sharded"][f"{optimizer}-{sharded}"] for sharded in (False, True))
    assert close(whole["losses"], shards["losses"])
    first, second = (
        ArrayFile(Run(folder / f"{optimizer}-{sharded}").latest().path / "trainer.safetensors")
        for sharded in (False, True)
    )
    assert first.entries == second.entries
    for name in first.entries:
        # A bias of keys has no gradient but rounding errors, which AdamW scales up: weights differ more than moments.
        atol = 1e-4 if name == "average.mean" else 1e-6
        np.testing.assert_allclose(second.read(name), first.read(name), rtol=1e-3, atol=atol)


@pytest.mark.parametrize("shards", ["False", "True"])
def test_a_resumed_job_of_as_many_ranks_has_the_same_bits(found: Found, shards: str) -> None:
    resumed = found["resumed"][shards]
    assert resumed["outcome"] == "terminated"
    assert resumed["losses"] == resumed["whole"]["losses"]
    assert resumed["weights"] == resumed["whole"]["weights"]


def test_another_number_of_ranks_continues_the_losses(found: Found, folder: Path) -> None:
    alone = tiny_ranks.single(steps=12)["losses"]
    losses = tiny_ranks.Losses()
    with pytest.warns(UserWarning, match="ranks 2 is now 1"):
        Trainer.resume(folder / "left", [losses]).fit()
    assert close(alone[5:], losses.losses)  # from two ranks to one
    assert close(alone[5:], found["continued"]["losses"])  # from one rank to two


def test_a_signal_stops_the_evaluation_of_all_ranks(found: Found) -> None:
    assert found["stopped_evaluation"] == {"outcome": "terminated", "step": 2}


@pytest.mark.parametrize(
    ("case", "pattern"),
    [
        ("options", r"LaunchError: configuration of rank 1 on \S+ differs from that of rank 0 on .*all ranks must have the same"),
        ("environment", r"LaunchError: numpy of rank 1 on \S+ differs from that of rank 0 on \S+ \(2.1, not 2.0\)"),
        ("data", r"LaunchError: training data of rank 1 on \S+ differs from that of rank 0"),
        ("folder", r"RankError: rank 1: \S+ does not see \S+unseen-1, which rank 0 has made"),
        ("reading", r"RankError: rank 1: RuntimeError: this rank fails"),
        ("weights", r"RankError: rank 1: its weights after step 4 differ from those of rank 0"),
    ],
)  # fmt: skip
def test_a_fault_of_one_rank_is_one_sentence_in_all_ranks(found: Found, case: str, pattern: str) -> None:
    of_rank_0, of_rank_1 = found["errors"][case]
    assert re.match(pattern, of_rank_0)
    assert re.match(pattern.replace("RankError: rank 1: RuntimeError", "(RankError: rank 1: )?RuntimeError"), of_rank_1)


def test_an_error_of_a_block_is_raised_in_all_ranks(found: Found) -> None:
    assert found["errors"]["block"] == [
        "RankError: rank 1: RuntimeError: this rank fails",
        "RuntimeError: this rank fails",
    ]
    assert found["errors"]["callback"] == [
        "RuntimeError: this rank fails",
        "RankError: rank 0: RuntimeError: this rank fails",
    ]


def test_an_error_while_other_ranks_wait_ends_the_job(launch: Launch, tmp_path: Path) -> None:
    done = launch(PROGRAM, tmp_path, "raises")
    assert done.returncode != 0
    assert "rank 1: RuntimeError: this rank fails" in done.stderr


def test_a_rank_that_exits_with_status_0_ends_the_job(launch: Launch, tmp_path: Path) -> None:
    done = launch(PROGRAM, tmp_path, "leaves")
    assert done.returncode != 0
    assert "rank 1 has left the job while rank 0 waits for it" in done.stderr


def test_a_killed_rank_ends_the_job_which_resumes_with_the_same_bits(launch: Launch, tmp_path: Path) -> None:
    assert launch(PROGRAM, tmp_path, "is_killed").returncode != 0
    assert launch(PROGRAM, tmp_path, "is_killed", "is_undisturbed").returncode == 0
    killed, undisturbed = (Run(tmp_path / name).latest().path for name in ("killed", "undisturbed"))
    assert (killed / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert (killed / "trainer.safetensors").read_bytes() == (undisturbed / "trainer.safetensors").read_bytes()


def test_a_message_of_a_rank_that_has_left_still_arrives() -> None:
    ranks = MPICommunicator.__new__(MPICommunicator)
    ranks.waiting = 0.0
    ranks._comm = SimpleNamespace(Iprobe=lambda *_: True)  # type: ignore[assignment]  # a rank has left
    ranks._mpi = SimpleNamespace(ANY_SOURCE=-1)  # type: ignore[assignment]
    polls = iter([False] * 200 + [True])
    ranks._wait(SimpleNamespace(Test=lambda: next(polls)))  # type: ignore[arg-type]
    assert next(polls, None) is None


def test_mpiexec_of_another_library_is_refused(launch: Launch) -> None:
    program = "from axone.llm.distributed import world; world()"
    environment = os.environ | {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=LONGEST
    )
    assert "LaunchError: mpiexec has started 4 ranks, but MPI has 1: run the mpiexec of the MPI library" in done.stderr


def test_a_missing_mpi4py_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingDependencyError, match=r'several ranks need mpi4py.*pip install "axone-llm\[mpi\]"'):
        world()


def test_a_missing_mpi_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("cannot load MPI library\nlibmpi.so: no such file")

    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setattr("axone.llm.distributed.launch.MPICommunicator", fail)
    with pytest.raises(LaunchError, match=r"finds no MPI library \(cannot load MPI library\): install one"):
        world()


def test_the_variables_of_each_launcher_are_known() -> None:
    assert launched_rank({"PMI_RANK": "1", "PMI_SIZE": "3"}) == (1, 3)
    assert launched_rank({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}) == (2, 3)
    assert launched_rank({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}) == (0, 2)
    assert launched_rank({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == (0, 1)


def test_a_process_alone_is_a_job_of_one_rank() -> None:
    ranks = world()
    array = np.arange(4, dtype=np.float32)
    ranks.all_reduce(array)
    ranks.reduce_scatter(array, [0, 4])
    ranks.all_gather_shards(array, [0, 4])
    ranks.broadcast_array(array)
    ranks.barrier()
    assert (ranks.rank, ranks.world_size, array.tolist()) == (0, 1, [0.0, 1.0, 2.0, 3.0])
    assert [part.tolist() for part in ranks.gather_chunks(array, [4])] == [array.tolist()]
    assert (ranks.broadcast("a"), ranks.all_gather("b"), run_together(ranks, lambda: 3)) == ("a", ["b"], [3])
    assert in_turn(ranks, lambda: "c") == "c"
    with pytest.raises(KeyError, match="d"), together(ranks):
        raise KeyError("d")
    with pytest.raises(SystemExit, match="the end"):
        ranks.abort("the end")


def test_no_process_is_forked_under_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    assert not can_fork()


def test_a_batch_that_ranks_cannot_divide_is_refused() -> None:
    ranks = SingleProcess()
    ranks.world_size = 3
    with pytest.raises(ValueError, match=r"batch_size \(8\) must be divisible by the number of ranks \(3\)"):
        tiny_ranks.trainer(ranks=ranks)


def test_shards_without_other_ranks_change_no_bit() -> None:
    assert tiny_ranks.single(steps=4) == tiny_ranks.single(steps=4, shard_optimizer=True)
