"""Training: it learns, it is a function of its seed, it resumes bit for bit, it stops in order."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Callback,
    CheckpointError,
    Evaluation,
    LanguageModel,
    LanguageModelConfig,
    RunExistsError,
    Step,
    TokenDataset,
    Trainer,
    TrainerConfig,
    TrainingDivergedError,
    cross_entropy,
    load,
)

CONFIG = TrainerConfig(
    steps=12, batch_size=6, context_length=16, warmup_steps=3, eval_every=5, learning_rate=3e-3, workers=2
)


class Recorder(Callback):
    """Keeps the losses, and may do something at a step."""

    def __init__(self, at: int = -1, action: Any = None) -> None:
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self._at, self._action = at, action

    def on_step(self, event: Step) -> None:
        self.losses.append(event.loss)
        if event.step == self._at:
            self._action()

    def on_evaluation(self, event: Evaluation) -> None:
        self.evaluations.append((event.step, event.loss))


def trained(
    config: LanguageModelConfig, dataset: TokenDataset, training: TrainerConfig, run: Path | None = None
) -> tuple[LanguageModel, Recorder]:
    recorder = Recorder()
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), training, [recorder], run=run).fit()
    return model, recorder


def same(a: LanguageModel, b: LanguageModel) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_it_learns(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    _, recorder = trained(config, dataset, dataclasses.replace(CONFIG, steps=150, learning_rate=1e-2))
    assert recorder.losses[0] > 3.2
    assert recorder.evaluations[-1][1] < 1.5


def test_it_evaluates_on_schedule_and_at_the_end(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    _, recorder = trained(config, dataset, CONFIG)
    assert [step for step, _ in recorder.evaluations] == [5, 10, 12]


def test_the_same_seed_gives_the_same_weights(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    dropping = dataclasses.replace(config, dropout=0.1)
    first, again = trained(dropping, dataset, CONFIG)[0], trained(dropping, dataset, CONFIG)[0]
    assert same(first, again)
    other = trained(dropping, dataset, dataclasses.replace(CONFIG, seed=1))[0]
    assert not same(first, other)


def test_workers_agree(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    curves = [
        trained(config, dataset, dataclasses.replace(CONFIG, workers=workers, steps=30))[1].losses for workers in (1, 3)
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_accumulated_batches_count_alike(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    _, recorder = trained(config, dataset, dataclasses.replace(CONFIG, accumulation=3))
    model = LanguageModel(config, rng=np.random.default_rng(0))
    train, _ = dataset.split()
    batches = [train.batch(CONFIG.seed, turn, CONFIG.batch_size, CONFIG.context_length) for turn in range(3)]
    mean = np.mean([cross_entropy(model(inputs), targets).item() for inputs, targets in batches])
    assert recorder.losses[0] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path, dropout: float, accumulation: int
) -> None:
    config = dataclasses.replace(config, dropout=dropout)
    training = dataclasses.replace(CONFIG, accumulation=accumulation)
    whole, recorder = trained(config, dataset, training)

    interrupted = Recorder(at=7, action=lambda: os.kill(os.getpid(), signal.SIGINT))
    model = LanguageModel(config, rng=np.random.default_rng(0))
    end = Trainer(model, *dataset.split(), training, [interrupted], run=tmp_path / "run").fit()
    assert (end.outcome, end.step) == ("interrupted", 7)

    rest = Recorder()
    trainer = Trainer.resume(tmp_path / "run", [rest])
    assert trainer.fit().outcome == "finished"
    assert same(trainer.model, whole)
    assert interrupted.losses + rest.losses == recorder.losses


def test_a_finished_run_can_be_resumed_and_only_measures(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    _, recorder = trained(config, dataset, CONFIG, tmp_path / "run")
    end = Trainer.resume(tmp_path / "run").fit()
    assert end.step == CONFIG.steps
    assert end.validation_loss == pytest.approx(recorder.evaluations[-1][1])


def test_sigterm_is_told_apart(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> None:
    recorder = Recorder(at=2, action=lambda: os.kill(os.getpid(), signal.SIGTERM))
    model = LanguageModel(config, rng=np.random.default_rng(0))
    before = signal.getsignal(signal.SIGTERM)
    end = Trainer(model, *dataset.split(), CONFIG, [recorder], run=tmp_path / "run").fit()
    assert end.outcome == "terminated"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_holds_what_is_needed_and_two_or_three_checkpoints(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    model, _ = trained(config, dataset, dataclasses.replace(CONFIG, eval_every=2), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names[-2:] == ["step-000010", "step-000012"]
    assert len(names) <= 3
    assert not (tmp_path / "run" / "lock").exists()
    options = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert options["trainer"]["steps"] == 12
    loaded, tokenizer = load(tmp_path / "run" / "checkpoints" / "step-000012")
    assert same(loaded, model)
    assert tokenizer.decode(tokenizer.encode("the fox")) == "the fox"


def test_an_existing_run_is_refused_unless_overwritten(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    trained(config, dataset, CONFIG, tmp_path / "run")
    with pytest.raises(RunExistsError, match="exists: resume it, overwrite it, or name another"):
        trained(config, dataset, CONFIG, tmp_path / "run")
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), CONFIG, run=tmp_path / "run", overwrite=True).fit()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunExistsError, match="is none"):
        Trainer(model, *dataset.split(), CONFIG, run=tmp_path / "mine", overwrite=True).fit()


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))

    def spoil() -> None:
        model.embedding.weight.data[0, 0] = np.nan

    trainer = Trainer(model, *dataset.split(), CONFIG, [Recorder(at=7, action=spoil)], run=tmp_path / "run")
    with pytest.raises(TrainingDivergedError, match="at step 8 the loss is nan"):
        trainer.fit()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-000000", "step-000005"]
    assert np.isfinite(load(tmp_path / "run")[0].embedding.weight.data).all()


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    whole, _ = trained(config, dataset, CONFIG, tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoints" / "step-000012" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.warns(UserWarning, match=r"skipped a damaged checkpoint: .*step-000012"):
        trainer = Trainer.resume(tmp_path / "run")
    trainer.fit()
    assert same(trainer.model, whole)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Trainer.resume(tmp_path)
    with pytest.raises(CheckpointError, match="is no model"):
        load(tmp_path)


def test_the_estimate_leaves_the_weights_alone(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))
    trainer = Trainer(model, *dataset.split(), CONFIG)
    estimate = trainer.estimate()
    assert estimate.seconds > 0
    assert same(model, LanguageModel(config, rng=np.random.default_rng(0)))
    trainer.fit()
    assert same(model, trained(config, dataset, CONFIG)[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": -1}, "steps must be at least 1, and is -1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"seed": -1}, "seed must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(CONFIG, **change)
