"""Scenarios of `tiny_ranks.py`: functions that all ranks of a job call, each with values for a test to check."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tiny import weights_sum
from tiny_ranks import CONFIG, Losses, train, trainer

from axone.llm import Run, Trainer
from axone.llm.distributed import Communicator, job, require_same_job, together
from axone.llm.errors import AxoneError
from axone.llm.training.optimizers import Optimizers


def collectives(ranks: Communicator, _folder: Path) -> dict[str, Any]:
    """Call every operation of the communicator on short and long values."""
    rank, size = ranks.rank, ranks.world_size
    long = 3 * (1 << 20) // size + 5  # several chunks, and a rest
    summed = np.arange(long, dtype=np.float32) + rank
    ranks.all_reduce(summed)
    bounds = [0, 3, *[long] * (size - 1)]
    scattered = np.arange(long, dtype=np.float32) + rank
    ranks.reduce_scatter(scattered, bounds)
    own = slice(bounds[rank], bounds[rank + 1])
    expected = np.arange(long, dtype=np.float32) * size + sum(range(size))
    whole = np.zeros(long, np.float32)
    whole[own] = scattered[own]
    ranks.all_gather_shards(whole, bounds)
    sizes = [bounds[i + 1] - bounds[i] for i in range(size)]
    chunks = [chunk.copy() for chunk in ranks.gather_chunks(whole[own], sizes)]
    for _ in ranks.gather_chunks(whole[own], sizes):
        break  # the rest is received without being used
    started = np.full(long, rank, np.float32)
    ranks.broadcast_array(started)
    ranks.barrier()
    return {
        "broadcast": [ranks.broadcast(value) for value in (rank, "x" * 1000, None, [1.5, {"a": rank}])],
        "gathered": [ranks.all_gather(value) for value in (rank, "y" * (300 * rank))],
        "summed": bool(np.array_equal(summed, expected)),
        "scattered": bool(np.array_equal(scattered[own], expected[own])),
        "whole": bool(np.array_equal(whole, expected)),
        "chunks": bool(np.array_equal(np.concatenate(chunks or [whole]), expected)),
        "started": bool((started == 0).all()),
        "workers": ranks.default_workers,
    }


def adamw(ranks: Communicator, _folder: Path) -> dict[str, Any]:
    """Train 50 steps twice."""
    return {"first": train(ranks), "second": train(ranks)}


def random(ranks: Communicator, _folder: Path) -> dict[str, Any]:
    """Train on random sequences with dropout, with two workers in each rank."""
    return train(ranks, replace(CONFIG, sampling="random", workers=2), dropout=0.1)


def sharded(ranks: Communicator, folder: Path) -> dict[str, Any]:
    """Train with each optimizer, with and without shards, into runs."""
    found = {}
    for optimizer in ("adamw", "muon", "sgd"):
        for shards in (False, True):
            name = f"{optimizer}-{shards}"
            config = replace(
                CONFIG, steps=12, optimizer=optimizer, average=0.5, calibration=0.1, shard_optimizer=shards
            )
            found[name] = train(ranks, config, run=folder / name)
    return found


def resumed(ranks: Communicator, folder: Path) -> dict[str, Any]:
    """Stop a training by SIGTERM at step 5 of 12, resume it, and train the same without a stop."""
    found = {}
    for shards in (False, True):
        config = replace(CONFIG, steps=12, average=0.8, calibration=0.1, shard_optimizer=shards)
        run = folder / f"stopped-{shards}"
        first = Losses(5, lambda: signal.raise_signal(signal.SIGTERM))
        end = trainer(config, [first], ranks=ranks, run=run, dropout=0.1).fit()
        second = Losses()
        again = Trainer.resume(run, [second], communicator=ranks)
        again.fit()
        found[str(shards)] = {
            "outcome": end.outcome,
            "losses": first.losses + second.losses,
            "weights": weights_sum(again.model),
            "whole": train(ranks, config, dropout=0.1),
        }
    return found


def left_unfinished(ranks: Communicator, folder: Path) -> None:
    """Stop a training by SIGTERM at step 5, for another number of ranks to resume."""
    stop = Losses(5, lambda: signal.raise_signal(signal.SIGTERM))
    trainer(replace(CONFIG, steps=12), [stop], ranks=ranks, run=folder / "left").fit()


def continued(ranks: Communicator, folder: Path) -> dict[str, Any]:
    """Resume a run that one rank has left unfinished."""
    losses = Losses()
    again = Trainer.resume(folder / "alone", [losses], communicator=ranks)
    again.fit()
    return {"losses": losses.losses}


def stopped_evaluation(ranks: Communicator, folder: Path) -> dict[str, Any]:
    """Send SIGTERM to all ranks while they evaluate."""
    made = trainer(replace(CONFIG, steps=4, eval_every=2), ranks=ranks, run=folder / "evaluated")
    _replace_read(made.validation_data, lambda: signal.raise_signal(signal.SIGTERM))
    end = made.fit()
    return {"outcome": end.outcome, "step": end.step}


def errors(ranks: Communicator, folder: Path) -> dict[str, Any]:
    """Catch the errors that all ranks must raise."""
    rank = ranks.rank
    job._VISIBLE_WITHIN = 0.1
    made = trainer(ranks=ranks)
    data = {"training": made.train_data}

    def differs(**options: Any) -> Callable[[], object]:
        return lambda: require_same_job(ranks, made.model, data, options)

    other = {"training": made.train_data if rank == 0 else made.validation_data}
    unseen = trainer(replace(CONFIG, steps=4), ranks=ranks, run=folder / f"unseen-{rank}")
    unreadable = trainer(replace(CONFIG, steps=4), ranks=ranks, run=folder / "unreadable")
    diverging = trainer(replace(CONFIG, steps=4), ranks=ranks, run=folder / "diverging")
    failing = trainer(replace(CONFIG, steps=4), [Losses(2, _fail)], ranks=ranks, run=folder / "failing")
    if rank:
        _replace_read(unreadable.train_data, _fail)
        _replace_read(diverging.train_data, lambda: _disturb(diverging))
    cases: dict[str, Callable[[], object]] = {
        "options": differs(configuration={"steps": 4 + rank}),
        "environment": differs(numpy=f"2.{rank}"),
        "data": lambda: require_same_job(ranks, made.model, other, {}),
        "block": lambda: _fail_in_one_rank(ranks),
        "folder": unseen.fit,
        "reading": unreadable.fit,
        "weights": diverging.fit,
        "callback": failing.fit,
    }
    return {name: ranks.all_gather(_message(case)) for name, case in cases.items()}


def raises(ranks: Communicator, _folder: Path) -> None:
    """Raise an error inside a collective method of rank 1, at a place that no other rank expects."""
    if ranks.rank:
        Optimizers.step = _fail  # type: ignore[method-assign,assignment]  # this process alone
    train(ranks)


def leaves(ranks: Communicator, _folder: Path) -> None:
    """End rank 1 with status 0 while rank 0 trains."""
    if ranks.rank:
        sys.exit(0)
    train(ranks)


KILLED = replace(CONFIG, steps=12, save_every=1)


def is_killed(ranks: Communicator, folder: Path) -> None:
    """Kill rank 1 in the sixth step of a training that saves every step, or resume it."""
    if (folder / "killed").exists():
        Trainer.resume(folder / "killed", communicator=ranks).fit()
        return
    made = trainer(KILLED, ranks=ranks, run=folder / "killed")
    if ranks.rank:
        _replace_read(made.train_data, _Kill(6))
    made.fit()


def is_undisturbed(ranks: Communicator, folder: Path) -> None:
    """Train the same without a kill."""
    trainer(KILLED, ranks=ranks, run=folder / "undisturbed").fit()


def is_disturbed(ranks: Communicator, folder: Path) -> None:
    """Write the process ids, and train or resume a run that a rank may be killed in at any moment."""
    (folder / "pids" / f".{ranks.rank}").write_text(str(os.getpid()), encoding="utf-8")
    (folder / "pids" / f".{ranks.rank}").rename(folder / "pids" / str(ranks.rank))
    run = folder / "disturbed"
    if Run(run).checkpoints():
        Trainer.resume(run, communicator=ranks).fit()
    else:
        ranks.barrier()  # until all ranks have looked
        trainer(KILLED, ranks=ranks, run=run, overwrite=True).fit()


def disturbed_for_long(ranks: Communicator, _folder: Path) -> None:
    """Train while a rank is slow, so that the others sleep."""
    made = trainer(replace(CONFIG, steps=3), ranks=ranks)
    if ranks.rank:
        _replace_read(made.train_data, lambda: time.sleep(0.02))
    made.fit()


class _Kill:
    """Kills its process at a call."""

    def __init__(self, call: int) -> None:
        self._left = call

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _fail(*_: object) -> None:
    raise RuntimeError("this rank fails")


def _fail_in_one_rank(ranks: Communicator) -> None:
    with together(ranks):
        if ranks.rank:
            _fail()


def _disturb(made: Trainer) -> None:
    next(iter(made.model.parameters())).data.flat[0] += 1e-3


def _message(function: Callable[[], object]) -> str:
    try:
        function()
    except (AxoneError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _replace_read(data: Any, action: Callable[[], object]) -> None:
    """Call a function before each batch that this rank reads."""
    read = data.read

    def disturbed(*arguments: Any) -> Any:
        action()
        return read(*arguments)

    data.read = disturbed
