"""Estimate of a training: time, memory, and the refusal of a training that does not fit."""

import dataclasses

import numpy as np
import pytest

from axone.llm import (
    LanguageModel,
    LanguageModelConfig,
    NotEnoughMemoryError,
    TokenDataset,
    Trainer,
    TrainerConfig,
    require_memory,
)
from axone.llm.data.training_data import Batch, MaskedBatch
from axone.llm.runtime import resources
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.step import TrainingStep
from axone.llm.types import Ids
from axone.nn import Dropout

CONFIG = TrainerConfig(steps=12, batch_size=6, context_length=16, eval_every=5, workers=2)


def test_accumulated_batches_are_made_one_at_a_time(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    endless = dataclasses.replace(CONFIG, gradient_accumulation_steps=10**20, workers=1)
    trainer = Trainer(LanguageModel(config), *dataset.split(), endless)
    assert trainer.estimate().seconds > 10**15
    with DataParallel(trainer.model, 1) as workers:
        steps = TrainingStep(workers, endless, trainer.train_data, trainer.validation_data)
        read = trainer.train_data.read
        sizes: list[int] = []

        def read_some(starts: Ids, context_length: int) -> Batch | MaskedBatch:
            sizes.append(len(starts))
            if len(sizes) == 3:
                raise EOFError
            return read(starts, context_length)

        trainer.train_data.read = read_some  # type: ignore[method-assign]  # to see what is read
        with pytest.raises(EOFError):
            steps.gradients(7)
    assert sizes == [CONFIG.batch_size] * 3


def test_a_training_that_does_not_fit_into_memory_is_refused_with_the_numbers(
    config: LanguageModelConfig, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(LanguageModel(config), *dataset.split(), CONFIG)
    monkeypatch.setattr(resources, "available_memory", lambda: 300_000)
    with pytest.raises(
        NotEnoughMemoryError, match=r"needs about \d+ MB of memory, and 0 MB are free: choose a smaller"
    ):
        trainer.estimate()
    require_memory(config)
    with pytest.raises(NotEnoughMemoryError, match="needs about 59,418 MB"):
        require_memory(LanguageModelConfig.gpt2(num_layers=48, embed_dim=1600, num_heads=25), num_replicas=7)
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    require_memory(LanguageModelConfig.gpt2(num_layers=10**6))


def test_an_estimate_leaves_weights_gradients_and_mode_of_the_model_alone(
    config: LanguageModelConfig, dataset: TokenDataset
) -> None:
    """The model was in evaluation mode afterwards, its gradients were gone, and its dropout generators replaced."""
    model = LanguageModel(dataclasses.replace(config, dropout=0.1), rng=np.random.default_rng(0))
    model(dataset.tokens[None, :8]).sum().backward()
    before = [(parameter.grad, parameter.data.copy()) for parameter in model.parameters()]
    generators = [repr(module.rng.bit_generator.state) for module in model.modules() if isinstance(module, Dropout)]
    Trainer(model, *dataset.split(), CONFIG).estimate()
    assert all(module.training for module in model.modules())
    for parameter, (gradient, values) in zip(model.parameters(), before):
        assert parameter.grad is gradient
        np.testing.assert_array_equal(parameter.data, values)
    after = [repr(module.rng.bit_generator.state) for module in model.modules() if isinstance(module, Dropout)]
    assert after == generators
