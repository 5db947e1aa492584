"""Data parallelism: the same gradient for any number of workers, the same bits in threads and processes."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import (
    Callback,
    LanguageModel,
    LanguageModelConfig,
    StepEvent,
    TokenDataset,
    Trainer,
    TrainerConfig,
    WorkerError,
    cross_entropy,
)
from axone.llm.checkpoints.run import Run
from axone.llm.data.training_data import Batch
from axone.llm.runtime import data_parallel
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.runtime.processes import ProcessGroup
from axone.llm.runtime.resources import MAX_WORKERS, environment
from axone.llm.runtime.threads import ThreadGroup

R = TypeVar("R")

needs_fork = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")


def loss(replica: LanguageModel, batch: Batch) -> Tensor:
    return cross_entropy(replica(batch[0]), batch[1])


def flat_gradient(
    model: LanguageModel, batch: Batch, num_replicas: int, num_workers: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    inputs, targets = batch
    cuts = np.linspace(0, len(inputs), num_replicas + 1).astype(int)
    shards = [[((inputs[a:b], targets[a:b]), (b - a) / len(inputs))] for a, b in itertools.pairwise(cuts)]
    with DataParallel(model, num_replicas, num_workers=num_workers) as workers:
        workers.compute_gradients(shards, lambda _replica, _index, _turn: None, loss)
        assert workers.flat.matrices.grad is not None
        assert workers.flat.vectors.grad is not None
        return np.concatenate([workers.flat.matrices.grad, workers.flat.vectors.grad])


def test_gradients_of_shards_sum_to_that_of_the_batch(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 7, 16)
    one, three = flat_gradient(model, batch, 1), flat_gradient(model, batch, 3)
    np.testing.assert_allclose(three, one, atol=1e-6)
    assert np.abs(one).max() > 1e-3


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_intra_op_threads_compute_the_same_gradient(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch, num_replicas: int
) -> None:
    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", 0)
    monkeypatch.setattr("axone.nn.functional.intra_op._LEAST_WORK", 1)
    monkeypatch.setattr("axone.nn.functional.matmul._MULTIPLE", 4)
    batch = dataset.batch(0, 0, num_replicas, 16)
    serial = flat_gradient(model, batch, num_replicas)
    runs: list[int] = []
    run = ThreadGroup.run

    def counted(group: ThreadGroup, tasks: Sequence[Callable[[], R]]) -> list[R]:
        runs.append(len(tasks))
        return run(group, tasks)

    monkeypatch.setattr(ThreadGroup, "run", counted)
    parallel = flat_gradient(model, batch, num_replicas, num_workers=2 * num_replicas)
    np.testing.assert_allclose(parallel, serial, atol=1e-6)
    assert runs.count(2) > 20 * num_replicas


@pytest.mark.parametrize(("small", "threads"), [(0, 1), (1 << 22, 2)])
def test_small_model_uses_more_workers_as_blas_threads(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, small: int, threads: int
) -> None:
    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", small)
    before = environment()
    with DataParallel(model, 2, num_workers=5):
        assert environment()["blas_threads"] in ([threads], [])
    assert environment() == before


def test_tables_of_ngrams_do_not_make_a_model_large(dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size, context_length=16, num_layers=1, num_heads=2, embed_dim=8, max_ngram=3
    )
    model = LanguageModel(config)
    assert model.ngram_embedding is not None
    tables = model.ngram_embedding.num_parameters()
    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", model.num_parameters() - tables)
    with DataParallel(model, 2, num_workers=5):
        assert environment()["blas_threads"] in ([2], [])
    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", model.num_parameters() - tables - 1)
    with DataParallel(model, 2, num_workers=5):
        assert environment()["blas_threads"] in ([1], [])


def test_failure_to_enter_restores_all_settings(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", 0)
    before, threads = environment(), threading.active_count()
    for kind in ("FlatParameters", "FlatParameters.bind_gradients"):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):  # noqa: PT012 - the patch belongs to it
            patch.setattr(f"axone.llm.runtime.data_parallel.{kind}", refuse)
            DataParallel(model, 1, num_workers=3).__enter__()
        assert (environment(), threading.active_count()) == (before, threads)


def test_two_trainings_at_once_leave_the_blas_threads_as_they_were(model: LanguageModel) -> None:
    before = environment()["blas_threads"]
    first, second = DataParallel(model, 1), DataParallel(model.replica(), 1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert environment()["blas_threads"] in ([1], [])
    second.__exit__(None, None, None)
    assert environment()["blas_threads"] == before


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_replicas": 0}, r"num_replicas \(0\) must be at least 1"),
        ({"num_replicas": 1, "num_workers": 100_000}, rf"num_workers \(100000\) must be at most {MAX_WORKERS}"),
        ({"num_replicas": 100_000}, rf"num_workers \(100000\) must be at most {MAX_WORKERS}"),
    ],
)
def test_number_of_workers_out_of_range_is_refused(model: LanguageModel, numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        DataParallel(model, numbers["num_replicas"], num_workers=numbers.get("num_workers"))


def test_flat_gradient_is_that_of_the_parameters(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 4, 16)
    output = loss(model, batch)
    output.backward()
    own = np.concatenate(
        [p.grad.reshape(-1) for p in sorted(model.parameters(), key=lambda p: p.ndim < 2) if p.grad is not None]
    )
    model.zero_grad()
    np.testing.assert_allclose(flat_gradient(model, batch, 1), own, atol=1e-7)


def test_parameters_are_views_of_one_array_also_after_loading(model: LanguageModel) -> None:
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with DataParallel(model, 2) as workers:
        flat = workers.flat.data
        for name, array in model.state_dict().items():
            assert np.shares_memory(array, flat)
            np.testing.assert_array_equal(array, before[name])
        model.load_state_dict({name: array + 1 for name, array in before.items()})
        assert all(np.shares_memory(p.data, flat) for p in workers.replicas[1].parameters())
        np.testing.assert_array_equal(next(workers.replicas[1].parameters()).data, before["embedding.weight"] + 1)


@pytest.mark.parametrize(
    ("embed_dim", "num_replicas", "allow_fork"), [(16, 2, True), (16, 1, False), (6, 2, True), (6, 1, False)]
)
def test_parameters_are_one_aligned_array_after_training(embed_dim: int, num_replicas: int, allow_fork: bool) -> None:
    config = LanguageModelConfig(vocab_size=9, context_length=4, num_layers=1, num_heads=2, embed_dim=embed_dim)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with DataParallel(model, num_replicas, allow_fork=allow_fork):
        pass
    assert len({id(parameter.data.base) for parameter in model.parameters()}) == 1
    for name, array in model.state_dict().items():
        assert array.ctypes.data % 64 == 0
        np.testing.assert_array_equal(array, before[name])


def test_error_in_a_worker_reaches_the_caller(model: LanguageModel) -> None:
    with DataParallel(model, 2) as workers, pytest.raises(ZeroDivisionError):
        workers.parallel_for(lambda item: 1 // item, [1, 0])


def test_clipping_scales_to_the_norm(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 4, 16)
    with DataParallel(model, 2) as workers:
        workers.compute_gradients([[(batch, 1.0)]], lambda _replica, _index, _turn: None, loss)
        norm = workers.clip_gradients(0.25)
        assert norm > 0.25
        assert workers.clip_gradients(None) == pytest.approx(0.25, rel=1e-5)


class Losses(Callback):
    """Losses and norms of all steps."""

    def __init__(self) -> None:
        self.numbers: list[tuple[float, float]] = []

    def on_step(self, event: StepEvent) -> None:
        self.numbers.append((event.loss, event.gradient_norm))


Bits = tuple[list[tuple[float, float]], float | None, dict[str, bytes], dict[str, bytes]]


def trained_bits(config: LanguageModelConfig, dataset: TokenDataset, plan: TrainerConfig, run: Path) -> Bits:
    """Return losses, moments and weights of a training."""
    losses, model = Losses(), LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), plan, [losses], run=run).fit()
    checkpoint = Run(run).latest()
    moments = {name: array.tobytes() for name, array in checkpoint.optimizer_state().items()}
    weights = {name: array.tobytes() for name, array in model.state_dict().items()}
    return losses.numbers, checkpoint.training_state().latest_loss, moments, weights


@needs_fork
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_processes_compute_the_bits_of_threads(
    config: LanguageModelConfig,
    dataset: TokenDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Any,
) -> None:
    calls: list[str] = []
    broadcast_call = ProcessGroup.broadcast_call

    def spy(self: ProcessGroup, program: object, method: str, *arguments: object) -> None:
        calls.append(method)
        broadcast_call(self, program, method, *arguments)

    monkeypatch.setattr(ProcessGroup, "broadcast_call", spy)
    plan = TrainerConfig(
        steps=6,
        batch_size=5,
        context_length=16,
        optimizer=optimizer,
        workers=2,
        gradient_accumulation_steps=2,
        eval_every=3,
        average=0.5,
        calibration=0.1,
    )
    found = []
    for forks in (False, True):
        monkeypatch.setattr(data_parallel, "can_fork", lambda forks=forks: forks)
        found.append(trained_bits(replace(config, dropout=0.1), dataset, plan, tmp_path / str(forks)))
        assert bool(calls) == forks
    assert found[0] == found[1]


@needs_fork
@pytest.mark.parametrize("refused", [1, 2])
def test_training_falls_back_to_threads_when_the_system_refuses_to_fork(
    config: LanguageModelConfig,
    dataset: TokenDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: int,
) -> None:
    plan = TrainerConfig(steps=3, batch_size=6, context_length=16, workers=3)
    monkeypatch.setattr(data_parallel, "can_fork", lambda: False)
    bits = trained_bits(config, dataset, plan, tmp_path / "threads")
    fork, forked = os.fork, list[int]()

    def refuse() -> int:
        if len(forked) + 1 == refused:
            raise OSError(12, "Cannot allocate memory")
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(data_parallel, "can_fork", lambda: True)
    monkeypatch.setattr(os, "fork", refuse)
    assert trained_bits(config, dataset, plan, tmp_path / "refused") == bits
    assert len(forked) == refused - 1
    for process in forked:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("axone-worker")] == []


@needs_fork
def test_run_whose_worker_is_killed_resumes_from_its_checkpoint(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[int] = []
    fork = os.fork

    def spy() -> int:
        forked.append(fork())
        return forked[-1]

    class Killer(Callback):
        def on_step(self, event: StepEvent) -> None:
            if event.step == 4:
                os.kill(forked[-1], signal.SIGKILL)

    monkeypatch.setattr(os, "fork", spy)
    monkeypatch.setattr(data_parallel, "can_fork", lambda: True)
    plan = TrainerConfig(steps=6, batch_size=4, context_length=16, workers=2, eval_every=3)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    trainer = Trainer(model, *dataset.split(), plan, [Killer()], run=tmp_path / "run")
    with pytest.raises(OSError, match=r"^worker process \d+ was killed by SIGKILL.*; resume .*run from its"):
        trainer.fit()
    assert Run(tmp_path / "run").latest().training_state().step == 3
    assert Trainer.resume(tmp_path / "run").fit().outcome == "finished"


def test_training_that_gets_too_few_threads_is_refused_with_one_sentence(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sys, "platform", "darwin")
    plan = TrainerConfig(steps=1, batch_size=4, context_length=16, workers=4)
    with pytest.raises(WorkerError, match=r"^cannot start 4 threads, because the system refuses more than 1: use"):
        Trainer(model, *dataset.split(), plan).fit()
