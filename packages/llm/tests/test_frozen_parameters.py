"""Frozen parameters in a training: no gradient, no optimizer state, no memory for either, and the same bits after it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, TokenDataset, Trainer, TrainerConfig
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.optimizers import Optimizers
from axone.nn import LoRALinear, MultiHeadAttention

OPTIMIZERS = ("adamw", "sgd", "muon")


def adapted(model: LanguageModel) -> LanguageModel:
    """Freeze a model, and add an adapter to the first projection of each block."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    for block in model.transformer.blocks:
        assert isinstance(block.attention, MultiHeadAttention)
        block.attention.qkv_proj = LoRALinear(block.attention.qkv_proj, 2, rng=np.random.default_rng(1))
    return model


def options(**changes: Any) -> TrainerConfig:
    return TrainerConfig(**{"steps": 4, "batch_size": 4, "context_length": 16, "workers": 2, **changes})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_flat_arrays_and_the_optimizers_hold_trained_parameters_alone(model: LanguageModel, optimizer: Any) -> None:
    adapted(model)
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    frozen = {name: p.data for name, p in model.named_parameters() if not p.requires_grad}
    with DataParallel(model, 2) as workers:
        assert workers.flat.data.size == trained < model.num_parameters()
        state = Optimizers(model, workers.flat, options(optimizer=optimizer)).state_dict()
        moments = 2 if optimizer == "adamw" else 1
        assert sum(array.size for name, array in state.items() if not name.endswith("steps")) <= moments * trained
        for name, parameter in model.named_parameters():
            if name in frozen:
                assert parameter.data is frozen[name]
                assert parameter.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_changes_trained_parameters_alone(model: LanguageModel, dataset: TokenDataset, optimizer: Any) -> None:
    adapted(model)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    Trainer(model, *dataset.split(), options(optimizer=optimizer)).fit()
    changed = {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}
    assert changed == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_processes_and_threads_train_an_adapter_to_the_same_bits(
    model: LanguageModel, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    start = {name: array.copy() for name, array in model.state_dict().items()}
    for can_fork in (True, False):
        twin = LanguageModel(model.config)
        twin.load_state_dict(start)
        monkeypatch.setattr("axone.llm.runtime.data_parallel.can_fork", lambda fork=can_fork: fork)
        Trainer(adapted(twin), *dataset.split(), options()).fit()
        states.append(twin.state_dict())
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)
