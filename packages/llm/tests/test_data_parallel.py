"""Workers: the same gradient however the batch is shared, and parameters in one array."""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, cross_entropy
from axone.llm.data.dataset import Batch
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.runtime.resources import environment
from axone.llm.runtime.threads import ThreadGroup

R = TypeVar("R")


def loss(replica: LanguageModel, batch: Batch) -> Tensor:
    return cross_entropy(replica(batch[0]), batch[1])


def flat_gradient(model: LanguageModel, batch: Batch, count: int, threads: int | None = None) -> np.ndarray:
    inputs, targets = batch
    cuts = np.linspace(0, len(inputs), count + 1).astype(int)
    shares = [[(inputs[a:b], targets[a:b])] for a, b in itertools.pairwise(cuts)]
    weights = [(b - a) / len(inputs) for a, b in itertools.pairwise(cuts)]
    with DataParallel(model, count, num_threads=threads) as workers:
        workers.compute_gradients(shares, lambda _replica, _worker, _turn: None, loss, weights)
        assert workers.flat.matrices.grad is not None
        assert workers.flat.vectors.grad is not None
        return np.concatenate([workers.flat.matrices.grad, workers.flat.vectors.grad])


def test_shares_add_up_to_the_batch(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 7, 16)
    one, three = flat_gradient(model, batch, 1), flat_gradient(model, batch, 3)
    np.testing.assert_allclose(three, one, atol=1e-6)
    assert np.abs(one).max() > 1e-3


@pytest.mark.parametrize("count", [1, 2])
def test_threads_beyond_the_workers_help_and_change_nothing(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("axone.llm.runtime.data_parallel.SMALL", 0)
    monkeypatch.setattr("axone.nn.functional.intra_op._LEAST_WORK", 1)
    monkeypatch.setattr("axone.nn.functional.blocked_matmul._WIDTH", 4)
    batch = dataset.batch(0, 0, count, 16)
    lonely = flat_gradient(model, batch, count)
    runs: list[int] = []
    run = ThreadGroup.run

    def counted(team: ThreadGroup, parts: Sequence[Callable[[], R]]) -> list[R]:
        runs.append(len(parts))
        return run(team, parts)

    monkeypatch.setattr(ThreadGroup, "run", counted)
    np.testing.assert_allclose(flat_gradient(model, batch, count, threads=2 * count), lonely, atol=1e-6)
    assert runs.count(2) > 20 * count


@pytest.mark.parametrize(("small", "inside"), [(0, 1), (1 << 22, 2)])
def test_in_a_small_model_they_help_inside_each_product(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, small: int, inside: int
) -> None:
    monkeypatch.setattr("axone.llm.runtime.data_parallel.SMALL", small)
    before = environment()
    with DataParallel(model, 2, num_threads=5):
        assert environment()["blas_threads"] in ([inside], [])
    assert environment() == before


def test_workers_that_cannot_begin_put_everything_back(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("axone.llm.runtime.data_parallel.SMALL", 0)
    before, threads = environment(), threading.active_count()
    for kind in ("FlatParameters", "FlatParameters.bind_gradients"):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):  # noqa: PT012 - the patch belongs to it
            patch.setattr(f"axone.llm.runtime.data_parallel.{kind}", refused)
            DataParallel(model, 1, num_threads=3).__enter__()
        assert (environment(), threading.active_count()) == (before, threads)


def test_the_flat_gradient_is_that_of_the_parameters(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 4, 16)
    output = loss(model, batch)
    output.backward()
    own = np.concatenate(
        [p.grad.reshape(-1) for p in sorted(model.parameters(), key=lambda p: p.ndim < 2) if p.grad is not None]
    )
    model.zero_grad()
    np.testing.assert_allclose(flat_gradient(model, batch, 1), own, atol=1e-7)


def test_parameters_become_views_of_one_array_and_stay_so(model: LanguageModel) -> None:
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
    ("embed_dim", "count", "allow_fork"), [(16, 2, True), (16, 1, False), (6, 2, True), (6, 1, False)]
)
def test_parameters_are_one_aligned_array_after_training(embed_dim: int, count: int, allow_fork: bool) -> None:
    config = LanguageModelConfig(vocab_size=9, context_length=4, num_layers=1, num_heads=2, embed_dim=embed_dim)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with DataParallel(model, count, allow_fork=allow_fork):
        pass
    assert len({id(parameter.data.base) for parameter in model.parameters()}) == 1
    for name, array in model.state_dict().items():
        assert array.ctypes.data % 64 == 0
        np.testing.assert_array_equal(array, before[name])


def test_an_error_in_a_worker_reaches_the_caller(model: LanguageModel) -> None:
    with DataParallel(model, 2) as workers, pytest.raises(ZeroDivisionError):
        workers.parallel_for(lambda item: 1 // item, [1, 0])


def test_clipping_scales_to_the_norm(model: LanguageModel, dataset: TokenDataset) -> None:
    batch = dataset.batch(0, 0, 4, 16)
    with DataParallel(model, 2) as workers:
        workers.compute_gradients([[batch]], lambda _replica, _worker, _turn: None, loss, [1.0])
        norm = workers.clip_gradients(0.25)
        assert norm > 0.25
        assert workers.clip_gradients(None) == pytest.approx(0.25, rel=1e-5)
