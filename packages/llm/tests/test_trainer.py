"""Trainer: learning, determinism, resuming, signals, refusals."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Callback,
    CheckpointError,
    CheckpointEvent,
    EndEvent,
    EvaluationEvent,
    LanguageModel,
    LanguageModelConfig,
    RunBusyError,
    RunExistsError,
    StepEvent,
    TokenDataset,
    Trainer,
    TrainerConfig,
    TrainingDivergedError,
    cross_entropy,
    load,
)
from axone.llm.checkpoints.run import Run
from axone.llm.runtime import signals
from axone.llm.training.step import TrainingStep

CONFIG = TrainerConfig(
    steps=12, batch_size=6, context_length=16, warmup_steps=3, eval_every=5, learning_rate=3e-3, workers=2
)


class Recorder(Callback):
    """Records losses, and runs an action at a step."""

    def __init__(self, at: int = -1, action: Any = None) -> None:
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self._at, self._action = at, action

    def on_step(self, event: StepEvent) -> None:
        self.losses.append(event.loss)
        if event.step == self._at:
            self._action()

    def on_evaluation(self, event: EvaluationEvent) -> None:
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


def test_repr_shows_the_sizes_of_a_training(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> None:
    model, parts = LanguageModel(config), dataset.split()
    sizes = f"{len(parts[0]):,} tokens and {len(parts[1]):,} held out, 12 steps of 6 x 16 tokens"
    begin = f"Trainer(LanguageModel of {model.num_parameters():,} parameters, {sizes}"
    assert repr(Trainer(model, *parts, CONFIG)) == f"{begin}, no run)"
    trainer = Trainer(model, *parts, dataclasses.replace(CONFIG, steps=3), run=tmp_path / "run")
    assert repr(trainer).endswith(f", Run({str(tmp_path / 'run')!r}))")
    trainer.fit()
    assert " tokens from step 3, Run(" in repr(Trainer.resume(tmp_path / "run"))


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


def test_accumulated_batches_have_equal_weight(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    _, recorder = trained(config, dataset, dataclasses.replace(CONFIG, gradient_accumulation_steps=3))
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
    training = dataclasses.replace(CONFIG, gradient_accumulation_steps=accumulation)
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


def test_a_finished_run_that_is_resumed_is_only_evaluated(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    _, recorder = trained(config, dataset, CONFIG, tmp_path / "run")
    end = Trainer.resume(tmp_path / "run").fit()
    assert end.step == CONFIG.steps
    assert end.validation_loss == pytest.approx(recorder.evaluations[-1][1])


class Signals(Callback):
    """Sends a signal at the end, and records whether the process survived it."""

    survived = False

    def on_end(self, event: EndEvent) -> None:  # noqa: ARG002
        signal.raise_signal(signal.SIGINT)
        self.survived = True


def test_a_second_signal_soon_after_the_first_is_ignored(
    config: LanguageModelConfig, dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_SAME", np.inf)  # every second signal counts as the same
    first, second = Recorder(at=2, action=lambda: signal.raise_signal(signal.SIGINT)), Signals()
    assert Trainer(LanguageModel(config), *dataset.split(), CONFIG, [first, second]).fit().outcome == "interrupted"
    assert second.survived


def test_a_first_signal_after_the_training_is_delivered_at_once(
    config: LanguageModelConfig, dataset: TokenDataset
) -> None:
    late = Signals()
    with pytest.raises(KeyboardInterrupt):
        Trainer(LanguageModel(config), *dataset.split(), CONFIG, [late]).fit()
    assert not late.survived


def test_sigterm_gives_another_outcome_than_sigint(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    recorder = Recorder(at=2, action=lambda: os.kill(os.getpid(), signal.SIGTERM))
    model = LanguageModel(config, rng=np.random.default_rng(0))
    before = signal.getsignal(signal.SIGTERM)
    end = Trainer(model, *dataset.split(), CONFIG, [recorder], run=tmp_path / "run").fit()
    assert end.outcome == "terminated"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_keeps_two_or_three_checkpoints_and_its_options(
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
    with pytest.raises(RunExistsError, match="exists already: resume it, overwrite it, or name another"):
        trained(config, dataset, CONFIG, tmp_path / "run")
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), CONFIG, run=tmp_path / "run", overwrite=True).fit()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunExistsError, match="is not a run"):
        Trainer(model, *dataset.split(), CONFIG, run=tmp_path / "mine", overwrite=True).fit()


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))

    def spoil() -> None:
        model.embedding.weight.data[0, 0] = np.nan

    trainer = Trainer(model, *dataset.split(), CONFIG, [Recorder(at=7, action=spoil)], run=tmp_path / "run")
    with pytest.raises(TrainingDivergedError, match=r"loss \(nan\) and gradient norm \(.*\) of step 8 must be finite"):
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


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for read in (Trainer.resume, load):
        with pytest.raises(CheckpointError, match="missing: is not a folder"):
            read(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"is not a run: it holds no run\.json"):
        Trainer.resume(tmp_path)
    with pytest.raises(CheckpointError, match="is not a model"):
        load(tmp_path)


def test_the_estimate_leaves_the_weights_alone(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))
    trainer = Trainer(model, *dataset.split(), CONFIG)
    estimate = trainer.estimate()
    assert estimate.seconds > 0
    assert same(model, LanguageModel(config, rng=np.random.default_rng(0)))
    trainer.fit()
    assert same(model, trained(config, dataset, CONFIG)[0])


def test_early_stopping_ends_a_training_without_improvement(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    stopping = dataclasses.replace(
        CONFIG, steps=100, eval_every=2, early_stopping_patience=2, learning_rate=0.0, eval_sequences=4
    )
    recorder = Recorder()
    model = LanguageModel(config, rng=np.random.default_rng(0))
    end = Trainer(model, *dataset.split(), stopping, [recorder], run=tmp_path / "run").fit()
    # The learning rate is 0: the first evaluation is the best one.
    assert (end.outcome, end.step) == ("stopped", 6)
    assert end.best_loss == pytest.approx(recorder.evaluations[0][1])
    assert end.validation_loss == pytest.approx(end.best_loss, rel=0.05)
    assert [step for step, _ in recorder.evaluations] == [2, 4, 6]
    again = Trainer.resume(tmp_path / "run").fit()
    assert (again.outcome, again.step, again.validation_loss) == ("stopped", 6, end.validation_loss)


def test_checkpoints_can_be_more_frequent_than_evaluations(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    class Saves(Callback):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_checkpoint(self, event: CheckpointEvent) -> None:
            self.steps.append(event.step)
            assert (event.path / "manifest.json").exists()

    saves = Saves()
    model = LanguageModel(config, rng=np.random.default_rng(0))
    saving = dataclasses.replace(CONFIG, save_every=4)
    Trainer(model, *dataset.split(), saving, [saves], run=tmp_path / "run").fit()
    assert saves.steps == [0, 4, 5, 8, 10, 12]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_every_optimizer_learns_by_every_schedule(
    config: LanguageModelConfig, dataset: TokenDataset, optimizer: str, schedule: str
) -> None:
    training = dataclasses.replace(
        CONFIG,
        steps=80,
        optimizer=optimizer,  # type: ignore[arg-type]  # one of the choices
        schedule=schedule,  # type: ignore[arg-type]  # likewise
        learning_rate=0.2 if optimizer == "sgd" else 1e-2,
        min_learning_rate=1e-3,
        momentum=0.9,
    )
    rates: list[float] = []

    class Rates(Callback):
        def on_step(self, event: StepEvent) -> None:
            rates.append(event.learning_rate)

    recorder, model = Recorder(), LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), training, [recorder, Rates()]).fit()
    assert np.mean(recorder.losses[-5:]) < 0.8 * recorder.losses[0]
    assert rates[0] == pytest.approx(training.learning_rate / training.warmup)
    assert rates[training.warmup - 1] == pytest.approx(training.learning_rate)
    assert rates[-1] == pytest.approx(training.learning_rate if schedule == "constant" else 1e-3)
    assert max(rates) == pytest.approx(training.learning_rate)


def test_an_evaluation_that_a_signal_interrupts_is_repeated_after_resuming(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, recorder = trained(config, dataset, CONFIG)
    original = TrainingStep.evaluate
    signalled = False

    def evaluate(self: TrainingStep, starts: Any, *, stop: Any = lambda: False) -> Any:
        nonlocal signalled
        if not signalled:
            signalled = True
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, starts, stop=stop)

    monkeypatch.setattr(TrainingStep, "evaluate", evaluate)
    first = Recorder()
    model = LanguageModel(config, rng=np.random.default_rng(0))
    end = Trainer(model, *dataset.split(), CONFIG, [first], run=tmp_path / "run").fit()
    assert (end.outcome, end.step, first.evaluations) == ("terminated", 5, [])
    rest = Recorder()
    trainer = Trainer.resume(tmp_path / "run", [rest])
    trainer.fit()
    assert rest.evaluations == recorder.evaluations
    assert same(trainer.model, whole)


def test_the_last_evaluation_that_a_signal_interrupts_is_repeated_after_resuming(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    _, recorder = trained(config, dataset, CONFIG)
    interrupted = Recorder(at=CONFIG.steps, action=lambda: os.kill(os.getpid(), signal.SIGINT))
    model = LanguageModel(config, rng=np.random.default_rng(0))
    end = Trainer(model, *dataset.split(), CONFIG, [interrupted], run=tmp_path / "run").fit()
    assert (end.outcome, end.step, end.validation_loss) == ("interrupted", CONFIG.steps, recorder.evaluations[1][1])
    end = Trainer.resume(tmp_path / "run").fit()
    assert (end.outcome, end.validation_loss) == ("finished", recorder.evaluations[-1][1])


def test_a_run_is_not_trained_twice_at_once(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> None:
    trained(config, dataset, CONFIG, tmp_path / "run")
    first, second = Trainer.resume(tmp_path / "run"), Trainer.resume(tmp_path / "run")
    with Run(tmp_path / "run").lock(), pytest.raises(RunBusyError, match=f"by process {os.getpid()}"):
        first.fit()
    new = Trainer(LanguageModel(config), *dataset.split(), CONFIG, run=tmp_path / "run", overwrite=True)
    with Run(tmp_path / "run").lock(), pytest.raises(RunBusyError, match=f"by process {os.getpid()}"):
        new.fit()
    newest = tmp_path / "run" / "checkpoints" / "step-000012"
    newest.rename(newest.with_name("step-000099"))
    with pytest.raises(RunBusyError, match="has been trained by another process since it was opened"):
        second.fit()


def test_weights_that_are_not_finite_are_not_saved(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    """The step that spoils them is followed by a checkpoint: no loss has been computed yet."""
    model = LanguageModel(config, rng=np.random.default_rng(0))

    def spoil() -> None:
        model.embedding.weight.data[0, 0] = np.inf
        os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(model, *dataset.split(), CONFIG, [Recorder(at=7, action=spoil)], run=tmp_path / "run")
    with pytest.raises(TrainingDivergedError, match="a weight after step 7 must be finite"):
        trainer.fit()
    assert Run(tmp_path / "run").latest().step == 5


def test_a_validation_loss_that_is_not_finite_ends_the_training(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path
) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0))

    def spoil() -> None:
        model.embedding.weight.data[...] = np.nan

    trainer = Trainer(model, *dataset.split(), CONFIG, [Recorder(at=5, action=spoil)], run=tmp_path / "run")
    with pytest.raises(TrainingDivergedError, match=r"the validation loss \(nan\) after step 5 must be finite"):
        trainer.fit()
    assert Run(tmp_path / "run").latest().step == 0


def test_the_data_stays_with_the_run(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> None:
    """A token file is hard-linked into the run: nothing is copied, and the run can be moved."""
    (tmp_path / "cache").mkdir()
    filed = dataset.write(tmp_path / "cache" / "tokens.bin")
    model = LanguageModel(config, rng=np.random.default_rng(0))
    whole, _ = trained(config, dataset, CONFIG)
    stop = Recorder(at=7, action=lambda: os.kill(os.getpid(), signal.SIGINT))
    Trainer(model, *filed.split(), CONFIG, [stop], run=tmp_path / "run").fit()
    (kept,) = (tmp_path / "run" / "data").glob("tokens-*.bin")
    assert kept.samefile(tmp_path / "cache" / "tokens.bin")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "run").rename(tmp_path / "moved")
    trainer = Trainer.resume(tmp_path / "moved")
    trainer.fit()
    assert same(trainer.model, whole)


def test_parts_that_do_not_match_are_refused(config: LanguageModelConfig, dataset: TokenDataset) -> None:
    parts = dataset.split()
    with pytest.raises(ValueError, match=r"context_length \(17\) must be at most that of the model \(16\)"):
        Trainer(LanguageModel(config), *parts, dataclasses.replace(CONFIG, context_length=17))
    with pytest.raises(
        ValueError, match=r"vocab_size of the tokenizer \(29\) must be at most that of the model \(28\)"
    ):
        Trainer(LanguageModel(dataclasses.replace(config, vocab_size=28)), *parts, CONFIG)
