"""Temperature scaling: the fitted temperature, the data it is fitted to, and what it changes in a model."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import Callback, LanguageModel, LanguageModelConfig, Run, StepEvent, TokenDataset, Trainer, TrainerConfig
from axone.llm.loss import cross_entropy, output_loss, states_and_targets
from axone.llm.training.calibration import fit_temperature, hold_back, logit_gains, tempered_losses

CONFIG = TrainerConfig(
    steps=80,
    batch_size=8,
    context_length=16,
    learning_rate=1e-2,
    eval_every=100,
    save_every=20,
    workers=1,
    calibration=0.1,
)


class Interrupt(Callback):
    """Sends SIGINT after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, event: StepEvent) -> None:
        if event.step == self._step:
            os.kill(os.getpid(), signal.SIGINT)


def trained(
    config: LanguageModelConfig, dataset: TokenDataset, training: TrainerConfig = CONFIG, **options: Any
) -> LanguageModel:
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, dataset, dataset, training, **options).fit()
    return model


def named(model: LanguageModel) -> dict[str, Any]:
    return {name: parameter.data for name, parameter in model.named_parameters()}


def gains_are_apart(one: LanguageModel, other: LanguageModel) -> Any:
    """Return the ratios of the gains of the last norm; all other parameters must be the same."""
    weights, others = named(one), named(other)
    gains = {name for name in weights if any(weights[name] is gain.data for gain in logit_gains(one))}
    for name in weights.keys() - gains:
        np.testing.assert_array_equal(weights[name], others[name])
    return np.concatenate([weights[name] / others[name] for name in gains])


@pytest.mark.parametrize("truth", [0.6, 1.0, 1.3, 2.5])
def test_the_temperature_is_that_of_the_lowest_loss(truth: float) -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((4000, 5))
    p = np.exp(logits / truth) / np.exp(logits / truth).sum(-1, keepdims=True)
    targets = (rng.random((4000, 1)) > p.cumsum(-1)).sum(-1)

    def losses(temperatures: Sequence[float]) -> list[float]:
        return [cross_entropy(Tensor(logits / each), targets).item() for each in temperatures]

    found = fit_temperature(losses)
    lowest = min(losses(np.geomspace(1 / 3, 3, 300).tolist()))
    assert losses([found])[0] == pytest.approx(lowest, abs=1e-4)
    assert found == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(("sign", "bound"), [(1, 2.86), (-1, 1 / 2.86)])
def test_a_temperature_has_bounds(sign: float, bound: float) -> None:
    assert fit_temperature(lambda temperatures: [sign / each for each in temperatures]) == pytest.approx(bound)


@pytest.mark.parametrize("change", [{}, {"norm": "rms", "tie_embeddings": False}])
def test_the_logits_are_divided_by_the_temperature_that_fits_the_data_held_back(
    config: LanguageModelConfig, dataset: TokenDataset, change: dict[str, Any]
) -> None:
    config = replace(config, **change)
    train, held_back = hold_back(dataset, CONFIG)
    assert isinstance(train, TokenDataset)
    assert isinstance(held_back, TokenDataset)
    np.testing.assert_array_equal(np.concatenate([held_back.tokens, train.tokens]), dataset.tokens)

    plain = trained(config, train, replace(CONFIG, calibration=0))
    calibrated = LanguageModel(config, rng=np.random.default_rng(0))
    end = Trainer(calibrated, dataset, dataset, CONFIG).fit()
    ratios = gains_are_apart(calibrated, plain)
    assert np.ptp(ratios) < 1e-6
    assert end.temperature == pytest.approx(1 / ratios[0], rel=1e-6)
    assert end.temperature != 1

    batch = held_back.read(held_back.sequence_starts(16), 16)
    others = [
        loss / batch[1].size for loss in tempered_losses(plain.eval(), batch, [0.9 / ratios[0], 1, 1.1 / ratios[0]])
    ]
    assert output_loss(calibrated.eval(), *states_and_targets(calibrated, batch)).item() < min(others)


def test_a_text_that_it_would_halve_is_not_calibrated(dataset: TokenDataset) -> None:
    assert hold_back(dataset.part(0, 35), CONFIG)[1] is None
    train, held_back = hold_back(dataset.part(0, 37), CONFIG)
    assert held_back is not None
    assert [len(part.sequence_starts(16)) for part in (train, held_back)] == [1, 1]


def test_two_workers_find_the_same_temperature(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    training = replace(CONFIG, steps=5, optimizer="sgd")  # AdamW scales up rounding errors of small gradients
    one, two = (trained(config, dataset, replace(training, workers=count)) for count in (1, 2))
    for name, weights in named(one).items():
        np.testing.assert_allclose(named(two)[name], weights, atol=1e-5)


def test_a_resumed_run_ends_with_the_same_bits(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    whole = trained(config, dataset, run=tmp_path / "whole")
    trained(config, dataset, run=tmp_path / "stopped", callbacks=[Interrupt(79)])
    resumed = Trainer.resume(tmp_path / "stopped")
    assert resumed.fit().temperature == Run(tmp_path / "whole").latest().training_state().temperature
    for name, weights in named(whole).items():
        np.testing.assert_array_equal(named(resumed.model)[name], weights)
    last = LanguageModel.from_pretrained(Run(tmp_path / "stopped").latest().path)
    for name, weights in named(whole).items():
        np.testing.assert_array_equal(named(last)[name], weights)


def test_an_estimate_leaves_the_weights_as_they_are(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))
    before = {name: weights.copy() for name, weights in named(model).items()}
    Trainer(model, dataset, dataset, replace(CONFIG, steps=1)).estimate()
    for name, weights in named(model).items():
        np.testing.assert_array_equal(weights, before[name])


def test_a_frozen_norm_is_refused(model: LanguageModel, dataset: TokenDataset) -> None:
    for gain in logit_gains(model):
        gain.requires_grad = False
    reason = "calibration (0.1) needs the last norm, which is frozen: train it too, or set calibration to 0"
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Trainer(model, dataset, dataset, CONFIG)
