"""The training loop: steps, evaluations and checkpoints, each when it is due, and what is told of them.

It knows neither model nor optimizer nor run: it is given what makes the steps, and a function that saves.

References
----------
.. [1] A. Karpathy, nanoGPT, https://github.com/karpathy/nanoGPT
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from axone.llm.checkpoints.checkpoint import TrainingState
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import TrainingDivergedError
from axone.llm.loss import bits_per_byte
from axone.llm.runtime.signals import SignalRecorder
from axone.llm.training.callbacks import Callback, Evaluation, Outcome, Saved, Step
from axone.llm.training.config import TrainerConfig
from axone.llm.training.pace import Pace
from axone.llm.types import Ids


class Steps(Protocol):
    """What makes the steps, such as `TrainingStep`."""

    def gradients(self, step: int) -> tuple[float, float]:
        """Compute a step's gradient, and return its loss and norm."""

    def update(self, step: int) -> float:
        """Apply the gradient, and return the learning rate."""

    def evaluate(self, starts: Ids, *, stop: Callable[[], bool]) -> tuple[float, int] | None:
        """Return the summed loss and the number of tokens of held-out windows; None if `stop` said so."""

    def is_finite(self) -> bool:
        """Tell whether all weights are finite."""


class Loop:
    """What is done between the beginning and the end of a training.

    Parameters
    ----------
    steps : Steps
    validation_data : TokenDataset
    config : TrainerConfig
    callbacks : sequence of Callback
        They hear of steps, evaluations and checkpoints.
    signals : SignalRecorder
        Once it has a number, the step is finished and saved, and nothing more is done.
    save : callable, optional
        Writes a checkpoint and returns its folder; None keeps nothing.
    """

    def __init__(
        self,
        steps: Steps,
        validation_data: TokenDataset,
        config: TrainerConfig,
        callbacks: Sequence[Callback],
        signals: SignalRecorder,
        save: Callable[[TrainingState], Path] | None = None,
    ) -> None:
        self._steps = steps
        self._validation_data = validation_data
        self._config = config
        self._callbacks = callbacks
        self._signals = signals
        self._write = save
        self._pace = Pace(config)

    def run(self, progress: TrainingState, *, saved: bool) -> tuple[TrainingState, Outcome]:
        """Train to the end, or until there is a reason to stop.

        Parameters
        ----------
        progress : TrainingState
            How far training had come.
        saved : bool
            Whether that is saved already.

        Returns
        -------
        progress : TrainingState
        outcome : Outcome

        Raises
        ------
        TrainingDivergedError
            If a loss, gradient or weight is not finite; nothing is saved then.
        OSError
            If a checkpoint cannot be written.
        """
        last = progress if saved else None
        while True:
            if self._pace.is_evaluation_due(progress):
                progress = self._evaluate(progress)
            stopping = self._is_stopping()
            if progress != last and (stopping or self._pace.is_save_due(progress)):
                self._save(progress)
                last = progress
            if stopping or self._pace.is_complete(progress):
                return progress, self._pace.outcome(progress, self._signals.number)
            progress = self._step(progress)

    def _step(self, progress: TrainingState) -> TrainingState:
        """Make one step and tell of it."""
        before = time.perf_counter()
        loss, norm = self._steps.gradients(progress.step)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _diverged(f"at step {progress.step + 1} the loss is {loss} and the gradient's norm {norm}")
        rate = self._steps.update(progress.step)
        seconds = time.perf_counter() - before
        progress = replace(progress, step=progress.step + 1, validation_loss=None, full_loss=None)
        event = Step(progress.step, loss, rate, norm, seconds, self._config.tokens_per_step / seconds)
        for callback in self._callbacks:
            callback.on_step(event)
        return progress

    def _evaluate(self, progress: TrainingState) -> TrainingState:
        """Measure the held-out text, all of it if training is complete then; leave it if a signal comes."""
        length = self._config.context_length
        some = self._validation_data.window_starts(length, self._config.eval_windows)
        loss = progress.validation_loss
        if loss is None:
            sums = self._steps.evaluate(some, stop=self._is_stopping)
            if sums is None:
                return progress
            loss = _finite(sums[0] / sums[1], progress.step)
            progress = progress.measured(loss)
        if self._pace.is_finished(progress):
            # Those measured already and the rest: the full loss, and one that compares with those on the way.
            rest = np.setdiff1d(self._validation_data.window_starts(length), some)
            sums = self._steps.evaluate(rest, stop=self._is_stopping)
            if sums is None:
                return progress
            tokens = len(some) * length
            loss = _finite((loss * tokens + sums[0]) / (tokens + sums[1]), progress.step)
            progress = replace(progress, full_loss=loss)
        data = self._validation_data
        event = Evaluation(progress.step, loss, bits_per_byte(loss, len(data), data.num_bytes))
        for callback in self._callbacks:
            callback.on_evaluation(event)
        return replace(progress, latest_loss=loss)

    def _save(self, progress: TrainingState) -> None:
        if self._write is None:
            return
        if not self._steps.is_finite():
            raise _diverged(f"after step {progress.step} a weight is not")
        event = Saved(progress.step, self._write(progress))
        for callback in self._callbacks:
            callback.on_checkpoint(event)

    def _is_stopping(self) -> bool:
        return self._signals.number is not None


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise _diverged(f"after step {step} the loss on held-out text is {loss}")
    return loss


def _diverged(what: str) -> TrainingDivergedError:
    return TrainingDivergedError(f"training needs finite numbers, and {what}: lower the learning rate")
