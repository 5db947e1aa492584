"""Shards of the optimizers: each has its part of the state, and all of them together update like one optimizer."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.llm import LanguageModel, LanguageModelConfig, TrainerConfig
from axone.llm.runtime.flat_parameters import FlatParameters
from axone.llm.storage.safetensors import ArrayFile, StreamedArray, write_arrays
from axone.llm.training.optimizers import Optimizers

OPTIMIZERS = "adamw", "muon", "sgd"


def parameters() -> tuple[LanguageModel, FlatParameters]:
    """Return a model and its flat parameters, with a gradient."""
    shape = LanguageModelConfig(vocab_size=30, context_length=8, num_layers=2, num_heads=2, embed_dim=16)
    model = LanguageModel(shape, rng=np.random.default_rng(0))
    flat = FlatParameters(model)
    gradient = flat.bind_gradients(model)
    gradient[:] = np.random.default_rng(1).standard_normal(gradient.size)
    flat.own_gradient(gradient)
    return model, flat


def config(optimizer: str) -> TrainerConfig:
    kind: dict[str, Literal["adamw", "muon", "sgd"]] = {"adamw": "adamw", "muon": "muon", "sgd": "sgd"}
    return TrainerConfig(steps=9, batch_size=1, context_length=8, optimizer=kind[optimizer], average=1)


def sequential(function: Any, items: Any) -> None:
    for item in items:
        function(item)


def nbytes(optimizers: Optimizers) -> int:
    return sum(array.nbytes for array in optimizers.state_dict().values())


def update(optimizers: Optimizers, step: int) -> None:
    optimizers.step(0.1, sequential)
    assert optimizers.is_averaged(step)
    optimizers.average(step, sequential)


def shards(optimizer: str, count: int, steps: int) -> tuple[NDArray[Any], list[Optimizers]]:
    """Return the weights after some steps of all shards, and the shards."""
    model, flat = parameters()
    bounds = flat.shard_bounds(count, whole_matrices=optimizer == "muon")
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    made = [Optimizers(model, flat, config(optimizer), part) for part in parts]
    for step in range(steps):
        for each in made:
            update(each, step)
    return flat.data, made


@pytest.mark.parametrize("steps", [3, 9])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_shards_update_the_same_weights_as_one_optimizer(optimizer: str, count: int, steps: int) -> None:
    model, flat = parameters()
    whole = Optimizers(model, flat, config(optimizer))
    for step in range(steps):
        update(whole, step)
    np.testing.assert_array_equal(shards(optimizer, count, steps)[0], flat.data)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_two_shards_have_half_of_the_state_each(optimizer: str) -> None:
    _, (first, second) = shards(optimizer, 2, 0)
    _, (whole,) = shards(optimizer, 1, 0)
    assert nbytes(first) == pytest.approx(nbytes(whole) / 2, rel=0.01)
    assert nbytes(second) == pytest.approx(nbytes(whole) / 2, rel=0.01)


def test_shards_of_muon_end_between_matrices() -> None:
    _, (first, second) = shards("muon", 2, 0)
    _, (whole,) = shards("muon", 1, 0)
    shapes = {array.name: array.shape for array in whole.state_arrays() if array.name.startswith("muon")}
    for one, other in zip(first.state_arrays(), second.state_arrays(), strict=True):
        if one.name.startswith("muon") and one.is_sharded:
            assert sorted([one.part.shape[0], other.part.shape[0]]) == [0, shapes[one.name][0]]
    assert 0.25 < nbytes(first) / nbytes(whole) < 0.75


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_shard_reads_its_part_of_a_file_of_the_whole_state(optimizer: str, tmp_path: Path) -> None:
    _, (whole,) = shards(optimizer, 1, 2)
    write_arrays(tmp_path / "state", whole.state_dict())
    _, expected = shards(optimizer, 3, 2)
    _, fresh = shards(optimizer, 3, 0)
    for read, other in zip(fresh, expected, strict=True):
        read.read_state(ArrayFile(tmp_path / "state"))
        for name, array in other.state_dict().items():
            np.testing.assert_array_equal(read.state_dict()[name], array)


def test_a_state_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    _, (muon,) = shards("muon", 1, 1)
    write_arrays(tmp_path / "muon", muon.state_dict())
    _, (adamw, _) = shards("adamw", 2, 0)
    with pytest.raises(ValueError, match=r"another optimizer|must have"):
        adamw.read_state(ArrayFile(tmp_path / "muon"))
    own = adamw.state_dict()
    write_arrays(tmp_path / "shard", own)
    with pytest.raises(ValueError, match=r"adamw\.0\.first_moment has shape \(\d+,\), it must have"):
        adamw.read_state(ArrayFile(tmp_path / "shard"))
    del own["adamw.0.first_moment"], own["adamw.1.first_moment"], own["adamw.0.second_moment"]
    del own["adamw.1.second_moment"], own["average.mean"]
    write_arrays(tmp_path / "empty", own)
    with pytest.raises(ValueError, match=r"0\.first_moment is missing"):
        adamw.read_state(ArrayFile(tmp_path / "empty"))


def test_a_streamed_array_is_written_like_one_in_memory(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    streamed = StreamedArray(array.dtype, array.shape, lambda: (array.reshape(-1)[i : i + 5] for i in (0, 5, 10)))
    write_arrays(tmp_path / "streamed", {"b": streamed, "a": array})
    write_arrays(tmp_path / "plain", {"b": array, "a": array})
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "plain").read_bytes()
