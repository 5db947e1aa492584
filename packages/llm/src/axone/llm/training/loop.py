"""TrainingLoop: schedule of steps, evaluations, checkpoints and early stopping, and the events of each.

The loop depends neither on the model nor on the optimizer nor on the run: it is given an object that makes the steps, and
a function that saves.

References
----------
.. [1] A. Karpathy, nanoGPT, https://github.com/karpathy/nanoGPT
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from axone.llm.checkpoints.checkpoint import TrainingState
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import TrainingDivergedError
from axone.llm.loss import bits_per_byte
from axone.llm.runtime.signals import SignalRecorder
from axone.llm.training.callbacks import Callback, CheckpointEvent, EvaluationEvent, StepEvent, TrainingOutcome
from axone.llm.training.config import TrainerConfig
from axone.llm.types import Ids


class StepFunctions(Protocol):
    """Computations of a step, such as those of `TrainingStep`."""

    def gradients(self, step: int) -> tuple[float, float]:
        """Compute the gradient of a step; return the loss and the gradient's norm."""

    def update(self, step: int) -> float:
        """Apply the gradient; return the learning rate."""

    def calibrate(self) -> float | None:
        """Divide the logits by a fitted temperature, once the last step is done; return it, or None if none is fitted."""

    def evaluate(self, starts: Ids, *, stop: Callable[[], bool]) -> tuple[float, int] | None:
        """Return the summed loss and the number of tokens of held-out sequences, or None if `stop` returned True."""

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""


class TrainingLoop:
    """Runs a training from its first step, or from a checkpoint, to its end.

    Parameters
    ----------
    steps : StepFunctions
    validation_data : TrainingData
    config : TrainerConfig
    callbacks : sequence of Callback
        They receive steps, evaluations and checkpoints.
    signals : SignalRecorder
        After a signal, the loop finishes the step, saves it and returns.
    save : callable, optional
        Writes a checkpoint and returns its folder; None saves nothing.
    tokens_per_step : int, optional
        By default that of the configuration, whose sequences all have the length of the context.
    """

    def __init__(
        self,
        steps: StepFunctions,
        validation_data: TrainingData,
        config: TrainerConfig,
        callbacks: Sequence[Callback],
        signals: SignalRecorder,
        save: Callable[[TrainingState], Path] | None = None,
        *,
        tokens_per_step: int | None = None,
    ) -> None:
        self._steps = steps
        self._validation_data = validation_data
        self._config = config
        self._callbacks = callbacks
        self._signals = signals
        self._write = save
        self._saved: TrainingState | None = None
        self._tokens_per_step = config.tokens_per_step if tokens_per_step is None else tokens_per_step

    def run(self, state: TrainingState, *, saved: bool) -> tuple[TrainingState, TrainingOutcome]:
        """Train until no step is left, early stopping ends the training, or a signal arrives.

        Parameters
        ----------
        state : TrainingState
            State before the first step.
        saved : bool
            Whether that state has been saved.

        Returns
        -------
        state : TrainingState
        outcome : TrainingOutcome

        Raises
        ------
        TrainingDivergedError
            If a loss, gradient or weight is not finite; nothing is saved then.
        OSError
            If a checkpoint cannot be written.
        Exception
            Any error of a callback, after the step has been saved.
        """
        self._saved = state if saved else None
        while True:
            if self._is_evaluation_due(state):
                state = self._evaluate(state)
            stopping = self._is_stopping()
            if state != self._saved and (stopping or self._is_checkpoint_due(state)):
                self._save(state)
            if stopping or self._is_complete(state):
                return state, self._outcome(state)
            state = self._step(state)

    def _is_finished(self, state: TrainingState) -> bool:
        """Return whether no step is left, or early stopping applies."""
        patience = self._config.early_stopping_patience
        stopped_early = patience is not None and state.evaluations_since_best >= patience
        return state.step >= self._config.steps or stopped_early

    def _is_complete(self, state: TrainingState) -> bool:
        """Return whether training is finished, and all of the held-out text has been evaluated."""
        return self._is_finished(state) and state.full_loss is not None

    def _is_evaluation_due(self, state: TrainingState) -> bool:
        if self._is_finished(state):
            return state.full_loss is None
        return state.step > 0 and state.step % self._config.eval_every == 0 and state.validation_loss is None

    def _is_checkpoint_due(self, state: TrainingState) -> bool:
        """Return whether the state is the first one, was evaluated, or is due by `save_every`."""
        every = self._config.save_every
        return state.step == 0 or state.validation_loss is not None or (every is not None and state.step % every == 0)

    def _outcome(self, state: TrainingState) -> TrainingOutcome:
        """Return the reason of the end; a signal is the reason only if it left something to do."""
        if not self._is_complete(state):
            return "terminated" if self._signals.number == signal.SIGTERM else "interrupted"
        return "finished" if state.step >= self._config.steps else "stopped"

    def _is_stopping(self) -> bool:
        return self._signals.number is not None

    def _step(self, state: TrainingState) -> TrainingState:
        before = time.perf_counter()
        loss, norm = self._steps.gradients(state.step)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _diverged(f"loss ({loss}) and gradient norm ({norm}) of step {state.step + 1}")
        rate = self._steps.update(state.step)
        seconds = time.perf_counter() - before
        made = state.step + 1
        temperature = self._steps.calibrate() if made == self._config.steps else None
        state = replace(state, step=made, validation_loss=None, full_loss=None, temperature=temperature)
        event = StepEvent(state.step, loss, rate, norm, seconds, self._tokens_per_step / seconds)
        with self._saving_on_error(state):
            for callback in self._callbacks:
                callback.on_step(event)
        return state

    def _evaluate(self, state: TrainingState) -> TrainingState:
        """Measure some of the held-out text, and all of it once training is finished; give up if a signal arrives."""
        length = self._config.context_length
        some = self._validation_data.sequence_starts(length, self._config.eval_sequences)
        loss = state.validation_loss
        if loss is None:
            sums = self._steps.evaluate(some, stop=self._is_stopping)
            if sums is None:
                return state
            loss = _require_finite(sums[0] / sums[1], state.step)
            state = state.measured(loss)
        if self._is_finished(state):
            # `some` stays a part of its own: validation_loss compares with earlier evaluations, full_loss is exact.
            rest = np.setdiff1d(self._validation_data.sequence_starts(length), some)
            sums = self._steps.evaluate(rest, stop=self._is_stopping)
            if sums is None:
                return state
            tokens = self._validation_data.count_targets(some, length)
            loss = _require_finite((loss * tokens + sums[0]) / (tokens + sums[1]), state.step)
            state = replace(state, full_loss=loss)
        data = self._validation_data
        event = EvaluationEvent(state.step, loss, bits_per_byte(loss, data.num_targets, data.num_bytes))
        state = replace(state, latest_loss=loss)
        with self._saving_on_error(state):
            for callback in self._callbacks:
                callback.on_evaluation(event)
        return state

    def _save(self, state: TrainingState) -> None:
        if self._write is not None:
            if not self._steps.is_finite():
                raise _diverged(f"a weight after step {state.step}")
            event = CheckpointEvent(state.step, self._write(state))
            self._saved = state
            for callback in self._callbacks:
                callback.on_checkpoint(event)
        self._saved = state

    @contextlib.contextmanager
    def _saving_on_error(self, state: TrainingState) -> Iterator[None]:
        """Save a state that is not saved yet if a callback raises: an error of the reporting loses no step."""
        try:
            yield
        except BaseException as error:
            if self._write is not None and state != self._saved and self._steps.is_finite():
                try:
                    self._write(state)
                except Exception as second:  # noqa: BLE001 - the first error is raised
                    error.add_note(f"Then saving step {state.step} raised {second!r}.")
            raise


def _require_finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise _diverged(f"the validation loss ({loss}) after step {step}")
    return loss


def _diverged(value: str) -> TrainingDivergedError:
    return TrainingDivergedError(f"{value} must be finite: lower the learning rate")
