"""Trainings that are resumed with another number of steps: their schedule, their bits, and early stopping."""

import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import Callback, LanguageModel, LanguageModelConfig, Run, StepEvent, TokenDataset, Trainer, TrainerConfig
from axone.llm.training.optimizers import learning_rate

SCHEDULES = ("cosine", "linear", "trapezoid", "constant")


class Rates(Callback):
    """Records the learning rate of each step, and interrupts after a step."""

    def __init__(self, stop: int | None = None) -> None:
        self.rates: dict[int, float] = {}
        self._stop = stop

    def on_step(self, event: StepEvent) -> None:
        self.rates[event.step] = event.learning_rate
        if event.step == self._stop:
            signal.raise_signal(signal.SIGINT)


def training(**changes: Any) -> TrainerConfig:
    fields = {"steps": 20, "batch_size": 4, "context_length": 16, "eval_every": 7, "warmup_steps": 3, "workers": 1}
    return TrainerConfig(**{**fields, "optimizer": "muon", **changes})


def start(dataset: TokenDataset, run: Path, config: TrainerConfig, *callbacks: Callback) -> Trainer:
    shape = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size,
        context_length=16,
        num_layers=1,
        num_heads=2,
        embed_dim=16,
        dropout=0.1,
        max_ngram=3,
        ngram_rows=500,
        ngram_dropout=0.3,
    )
    model = LanguageModel(shape, rng=np.random.default_rng(0))
    return Trainer(model, *dataset.split(), config, callbacks, run=run)


def bits(run: Path) -> str:
    """Return the sum of weights and optimizer state of the newest checkpoint."""
    folder = Run(run).latest().path
    files = [folder / name for name in ("model.safetensors", "trainer.safetensors")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_a_trapezoid_prolonged_before_its_cooldown_has_the_bits_of_the_longer_plan(
    dataset: TokenDataset, tmp_path: Path
) -> None:
    short, long = training(schedule="trapezoid", cooldown=0.5), training(schedule="trapezoid", cooldown=0.5, steps=30)
    start(dataset, tmp_path / "planned", long).fit()
    assert start(dataset, tmp_path / "run", short, Rates(stop=9)).fit().step == 9
    end = Trainer.resume(tmp_path / "run", steps=30).fit()
    assert (end.outcome, end.step) == ("finished", 30)
    assert bits(tmp_path / "run") == bits(tmp_path / "planned")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_finished_run_continues_with_the_rates_of_the_longer_schedule(
    dataset: TokenDataset, tmp_path: Path, schedule: str
) -> None:
    config = training(schedule=schedule, warmup_steps=None, steps=100)  # a warm-up of 10 steps
    start(dataset, tmp_path / "run", config).fit()
    rates = Rates()
    end = Trainer.resume(tmp_path / "run", [rates], steps=150).fit()
    assert (end.outcome, end.step) == ("finished", 150)
    longer = training(schedule=schedule, warmup_steps=10, steps=150)
    assert rates.rates == {step + 1: learning_rate(longer, step) for step in range(100, 150)}


def test_a_trapezoid_returns_to_its_constant_rate_after_a_cooldown(dataset: TokenDataset, tmp_path: Path) -> None:
    start(dataset, tmp_path / "run", training(schedule="trapezoid", cooldown=0.2)).fit()
    rates = Rates()
    Trainer.resume(tmp_path / "run", [rates], steps=40).fit()
    assert [rates.rates[step] for step in (21, 32)] == [1e-3, 1e-3]
    assert rates.rates[33] < 1e-3
    assert rates.rates[40] == pytest.approx(1e-4)


def test_a_run_can_end_earlier_than_planned(dataset: TokenDataset, tmp_path: Path) -> None:
    start(dataset, tmp_path / "run", training(steps=2000), Rates(stop=5)).fit()
    end = Trainer.resume(tmp_path / "run", steps=6).fit()
    assert (end.outcome, end.step) == ("finished", 6)
    assert end.validation_loss is not None


PROGRAM = """
import os, signal, sys
from axone.llm import Callback, Trainer

class Kill(Callback):
    def on_step(self, event):
        if event.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

Trainer.resume(sys.argv[1], [Kill()], steps=40).fit()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("step", [21, 37])  # before the first new checkpoint, and after one
def test_a_run_killed_after_it_was_prolonged_continues_to_the_new_end_with_the_same_bits(
    dataset: TokenDataset, tmp_path: Path, step: int
) -> None:
    start(dataset, tmp_path / "run", training(schedule="trapezoid")).fit()
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    Trainer.resume(tmp_path / "run", steps=40).fit()
    killed = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "killed"), str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    end = Trainer.resume(tmp_path / "killed").fit()
    assert (end.outcome, end.step) == ("finished", 40)
    assert bits(tmp_path / "killed") == bits(tmp_path / "run")


def test_more_steps_set_the_patience_of_early_stopping_back(dataset: TokenDataset, tmp_path: Path) -> None:
    config = training(steps=50, eval_every=1, early_stopping_patience=2, learning_rate=0.0, optimizer="adamw")
    assert start(dataset, tmp_path / "run", config).fit().step == 3
    resumed = Trainer.resume(tmp_path / "run", [Rates(stop=4)], steps=60).fit()
    assert (resumed.outcome, resumed.step) == ("interrupted", 4)
    assert Trainer.resume(tmp_path / "run").fit().step == 5  # the patience was set back once


def test_a_number_of_steps_that_was_made_is_refused_and_changes_nothing(dataset: TokenDataset, tmp_path: Path) -> None:
    start(dataset, tmp_path / "run", training()).fit()
    options = Run(tmp_path / "run").options()
    with pytest.raises(ValueError, match=r"^steps \(20\) must be above 20, the number of steps that the run has made$"):
        Trainer.resume(tmp_path / "run", steps=20)
    Trainer.resume(tmp_path / "run", steps=25)  # without `fit`
    assert Run(tmp_path / "run").options() == options
    Trainer.resume(tmp_path / "run", steps=25).fit()
    changed = {**options["trainer"], "steps": 25, "warmup_steps": 3}
    assert Run(tmp_path / "run").options() == {**options, "trainer": changed}


def test_the_estimate_of_a_resumed_run_counts_the_steps_that_are_left(dataset: TokenDataset, tmp_path: Path) -> None:
    start(dataset, tmp_path / "run", training(steps=10**7), Rates(stop=5)).fit()
    whole = Trainer.resume(tmp_path / "run").estimate()
    assert whole.seconds > whole.seconds_per_step * (10**7 - 5) > 0
    assert Trainer.resume(tmp_path / "run", steps=6).estimate().seconds < whole.seconds / 100
