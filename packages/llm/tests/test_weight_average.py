"""The average of the weights over the last steps: its values, its state, and trainings that end with it."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Callback,
    EvaluationEvent,
    LanguageModel,
    LanguageModelConfig,
    Run,
    StepEvent,
    TokenDataset,
    Trainer,
    TrainerConfig,
)
from axone.llm.training.weight_average import WeightAverage


def sequential(function: Any, items: Any) -> None:
    for item in items:
        function(item)


class Weights(Callback):
    """Records the weights after every step, and the losses of evaluations; interrupts after a step."""

    def __init__(self, model: LanguageModel, stop: int | None = None) -> None:
        self.model = model
        self._stop = stop
        self.weights: list[Any] = []
        self.losses: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        self.weights.append(flat(self.model))
        if event.step == self._stop:
            os.kill(os.getpid(), signal.SIGINT)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        self.losses.append(event.loss)


def flat(model: LanguageModel) -> Any:
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


def train(
    config: LanguageModelConfig, dataset: TokenDataset, run: Path | None = None, stop: int | None = None, **options: Any
) -> tuple[Weights, float | None]:
    model = LanguageModel(config, rng=np.random.default_rng(0))
    weights = Weights(model, stop)
    fields = {"steps": 20, "batch_size": 4, "context_length": 16, "eval_every": 30, "workers": 1, **options}
    end = Trainer(model, *dataset.split(), TrainerConfig(**fields), [weights], run=run).fit()
    return weights, end.validation_loss


@pytest.mark.parametrize("size", [1, 1000, (1 << 18) + 1])
def test_the_mean_is_that_of_all_weights_since_it_was_cleared(size: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(size)
    average = WeightAverage(weights)
    average.add(sequential)
    average.clear()
    seen = []
    for _ in range(7):
        weights[...] = rng.standard_normal(size)
        seen.append(weights.copy())
        average.add(sequential)
    np.testing.assert_array_equal(weights, seen[-1])
    np.testing.assert_allclose(average.mean, np.mean(seen, axis=0), atol=1e-14)
    average.apply(sequential)
    np.testing.assert_array_equal(weights, average.mean)


def test_a_restored_mean_continues() -> None:
    first, second = WeightAverage(np.arange(5.0)), WeightAverage(np.arange(5.0))
    first.add(sequential)
    second.load_state_dict({name: array.copy() for name, array in first.state_dict().items()})
    for average in (first, second):
        average.weights += 3
        average.add(sequential)
    np.testing.assert_array_equal(second.mean, first.mean)
    assert second.count == first.count == 2


def test_the_state_of_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the state of the average has the shapes .*'mean': \(4,\).* it must have"):
        WeightAverage(np.zeros(5)).load_state_dict(WeightAverage(np.zeros(4)).state_dict())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_ends_with_the_mean_of_the_last_weights(
    config: LanguageModelConfig, dataset: TokenDataset, workers: int
) -> None:
    plain, plain_loss = train(config, dataset, workers=workers)
    averaged, loss = train(config, dataset, average=0.25, workers=workers)
    for ours, expected in zip(averaged.weights[:-1], plain.weights[:-1], strict=True):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(flat(averaged.model), np.mean(plain.weights[-5:], axis=0), atol=1e-7)
    assert loss != plain_loss
    assert averaged.losses == [loss]  # the evaluation is of the mean


def test_the_last_checkpoint_is_the_mean_and_earlier_ones_are_not(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    averaged, _ = train(config, dataset, tmp_path / "run", average=0.5, save_every=5)
    steps = {checkpoint.step: checkpoint.path for checkpoint in Run(tmp_path / "run").checkpoints()}
    for step, expected in ((20, flat(averaged.model)), (15, averaged.weights[14])):
        np.testing.assert_array_equal(flat(LanguageModel.from_pretrained(steps[step])), expected)


@pytest.mark.parametrize(
    ("planned", "stop", "steps", "first"),
    [(12, 11, 20, 11), (20, 11, 12, 10), (1, None, 20, 10)],
    ids=["the mean begins anew", "it has the weights since the old window began", "the old window was of one step"],
)
def test_a_run_resumed_with_another_number_of_steps_averages_over_its_new_end(
    config: LanguageModelConfig,
    dataset: TokenDataset,
    tmp_path: Path,
    planned: int,
    stop: int | None,
    steps: int,
    first: int,
) -> None:
    options: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0}
    plain, _ = train(config, dataset, steps=steps, **options)
    train(config, dataset, tmp_path / "run", stop=stop, steps=planned, average=0.5, **options)
    resumed = Trainer.resume(tmp_path / "run", steps=steps)
    resumed.fit()
    np.testing.assert_allclose(flat(resumed.model), np.mean(plain.weights[first:], axis=0), atol=1e-6)
