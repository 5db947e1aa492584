"""The training loop without a model: schedule, early stopping, signals."""

import itertools
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axone.llm import (
    Callback,
    CheckpointEvent,
    EvaluationEvent,
    StepEvent,
    TokenDataset,
    TrainerConfig,
    TrainingDivergedError,
)
from axone.llm.checkpoints.checkpoint import TrainingState
from axone.llm.runtime.signals import SignalRecorder
from axone.llm.training.loop import TrainingLoop
from axone.llm.types import Ids

CONFIG = TrainerConfig(steps=10, batch_size=2, context_length=16, eval_every=2, eval_sequences=4, save_every=5)


class Steps:
    """Steps that learn nothing, with given validation losses."""

    def __init__(self, losses: list[float], *, norm: float = 1.0) -> None:
        self.losses = iter(losses)
        self.norm = norm
        self.finite = True
        self.updates = 0
        self.calibrated: list[int] = []

    def gradients(self, step: int) -> tuple[float, float]:  # noqa: ARG002 - all are alike
        return 1.0, self.norm

    def update(self, step: int) -> float:  # noqa: ARG002 - all are alike
        self.updates += 1
        return 0.1

    def calibrate(self) -> float:
        self.calibrated.append(self.updates)
        return 1.2

    def evaluate(self, starts: Ids, *, stop: Callable[[], bool]) -> tuple[float, int] | None:
        tokens = len(starts) * CONFIG.context_length
        return None if stop() else (next(self.losses) * tokens, tokens)

    def is_finite(self) -> bool:
        return self.finite


class Diary(Callback):
    """Records events, and runs an action at a step."""

    def __init__(self, at: int = -1, action: Callable[[], None] = lambda: None) -> None:
        self.events: list[tuple[str, int]] = []
        self.saved: list[TrainingState] = []
        self._at, self._action = at, action

    def on_step(self, event: StepEvent) -> None:
        self.events.append(("step", event.step))
        if event.step == self._at:
            self._action()

    def on_evaluation(self, event: EvaluationEvent) -> None:
        self.events.append(("evaluation", event.step))

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        self.events.append(("checkpoint", event.step))

    def save(self, progress: TrainingState) -> Path:
        self.saved.append(progress)
        return Path(str(progress.step))


def loop(
    steps: Steps,
    diary: Diary,
    dataset: TokenDataset,
    config: TrainerConfig = CONFIG,
    signals: SignalRecorder | None = None,
) -> TrainingLoop:
    return TrainingLoop(steps, dataset, config, [diary], signals or SignalRecorder(), diary.save)


def numbers(start: float) -> Iterator[float]:
    return itertools.count(start, -0.1)


def test_steps_evaluations_and_checkpoints_follow_the_schedule(dataset: TokenDataset) -> None:
    diary = Diary()
    steps = Steps(list(itertools.islice(numbers(3.0), 6)))
    progress, outcome = loop(steps, diary, dataset).run(TrainingState(step=0), saved=False)
    wanted = [("checkpoint", 0)]
    for step in range(1, 11):
        wanted.append(("step", step))
        wanted += [("evaluation", step)] if step % 2 == 0 else []
        wanted += [("checkpoint", step)] if step % 2 == 0 or step % 5 == 0 else []
    assert diary.events == wanted
    assert steps.calibrated == [10]  # once, before the last evaluation
    assert [each.temperature for each in diary.saved] == [None] * (len(diary.saved) - 1) + [1.2]
    assert outcome == "finished"
    assert progress.best_loss == progress.validation_loss == pytest.approx(2.6)
    every, some = (
        len(dataset.sequence_starts(16)),
        4,
    )  # the other sequences are evaluated at the end, with a loss of 2.5
    assert progress.latest_loss == progress.full_loss == pytest.approx((2.6 * some + 2.5 * (every - some)) / every)
    assert diary.saved[-1] == progress


def test_patience_counts_from_the_best_evaluation(dataset: TokenDataset) -> None:
    config = TrainerConfig(**{**CONFIG.__dict__, "steps": 100, "early_stopping_patience": 3})
    losses = [3.0, 2.0, 2.5, 2.4, 1.9, 1.95, 1.9, 2.0, 1.7]
    progress, outcome = loop(Steps(losses), Diary(), dataset, config).run(TrainingState(step=0), saved=False)
    assert (outcome, progress.step, progress.best_loss) == ("stopped", 16, 1.9)
    assert progress.evaluations_since_best == 3


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_stops_before_the_update(dataset: TokenDataset, norm: float) -> None:
    diary, steps = Diary(), Steps([], norm=norm)
    with pytest.raises(
        TrainingDivergedError, match=rf"loss \(1.0\) and gradient norm \({norm}\) of step 1 must be finite"
    ):
        loop(steps, diary, dataset).run(TrainingState(step=0), saved=False)
    assert diary.events == [("checkpoint", 0)]


def test_weights_that_are_not_finite_are_not_saved(dataset: TokenDataset) -> None:
    steps = Steps([2.0])
    diary = Diary(2, lambda: setattr(steps, "finite", False))
    with pytest.raises(TrainingDivergedError, match="a weight after step 2 must be finite"):
        loop(steps, diary, dataset).run(TrainingState(step=0), saved=False)
    assert [progress.step for progress in diary.saved] == [0]


def test_a_signal_ends_the_loop_after_the_step_is_saved(dataset: TokenDataset) -> None:
    signals = SignalRecorder()
    diary = Diary(3, lambda: signals.handle(signal.SIGTERM, None))
    progress, outcome = loop(Steps([2.0]), diary, dataset, signals=signals).run(TrainingState(step=0), saved=False)
    assert (outcome, progress.step) == ("terminated", 3)
    assert diary.events[-2:] == [("step", 3), ("checkpoint", 3)]


def test_a_saved_state_is_not_saved_again(dataset: TokenDataset) -> None:
    signals, diary = SignalRecorder(), Diary()
    signals.handle(signal.SIGINT, None)
    before = TrainingState(step=3, validation_loss=None)
    assert loop(Steps([]), diary, dataset, signals=signals).run(before, saved=True) == (before, "interrupted")
    assert diary.events == []
