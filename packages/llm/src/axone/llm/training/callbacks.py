"""Training events and the callback interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

TrainingOutcome: TypeAlias = Literal["finished", "stopped", "interrupted", "terminated"]


@dataclass(frozen=True)
class StartEvent:
    """Training begins, or continues from a checkpoint.

    Attributes
    ----------
    step : int
        Steps made so far.
    total_steps : int
        Steps of the whole training.
    tokens_per_step : int
    run : Path or None
        The run's folder.
    """

    step: int
    total_steps: int
    tokens_per_step: int
    run: Path | None


@dataclass(frozen=True)
class StepEvent:
    """Training made a step.

    Attributes
    ----------
    step : int
        Steps made so far.
    loss : float
        Mean loss of the step's batches, in nats per token.
    learning_rate : float
    gradient_norm : float
        Norm before clipping.
    seconds : float
        Duration of the step.
    tokens_per_second : float
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class EvaluationEvent:
    """The loss on held-out text was measured.

    Attributes
    ----------
    step : int
        Steps made so far.
    loss : float
        In nats per token.
    bits_per_byte : float
    """

    step: int
    loss: float
    bits_per_byte: float


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint was written.

    Attributes
    ----------
    step : int
        Steps made so far.
    path : Path
        The checkpoint's folder.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class EndEvent:
    """Training ended without an error.

    Attributes
    ----------
    outcome : {"finished", "stopped", "interrupted", "terminated"}
        All steps were made, early stopping ended the training, or SIGINT or SIGTERM arrived.
    step : int
        Steps made so far.
    validation_loss : float or None
        Loss of the last evaluation, in nats per token; None without an evaluation.
    bits_per_byte : float or None
        The same loss in bits per byte.
    best_loss : float or None
        Lowest loss of all evaluations, in nats per token.
    temperature : float or None
        What the logits were divided by after the last step; None before, and without calibration.
    seconds : float
        Duration of the call of `Trainer.fit`.
    run : Path or None
        The run's folder.
    """

    outcome: TrainingOutcome
    step: int
    validation_loss: float | None
    bits_per_byte: float | None
    best_loss: float | None
    temperature: float | None
    seconds: float
    run: Path | None


class Callback(Protocol):
    """Receives the events of a training; a subclass overrides the methods that it needs.

    `on_end` is called if training ends without an error, also after a signal. `close` is called in any case: release files
    and the like there. If a method raises, the step is saved, and `Trainer.fit` raises that error.

    Examples
    --------
    >>> from axone.llm import Callback, StepEvent
    >>> class Losses(Callback):
    ...     def __init__(self) -> None:
    ...         self.losses: list[float] = []
    ...
    ...     def on_step(self, event: StepEvent) -> None:
    ...         self.losses.append(event.loss)
    """

    def on_start(self, event: StartEvent) -> None:
        """Training begins or continues."""
        return

    def on_step(self, event: StepEvent) -> None:
        """Training made a step."""
        return

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """The loss on held-out text was measured."""
        return

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """A checkpoint was written."""
        return

    def on_end(self, event: EndEvent) -> None:
        """Training ended without an error."""
        return

    def close(self) -> None:
        """Release resources. This call is the last one, also after an error and without `on_start`."""
        return


@contextmanager
def closing(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Close callbacks at the end of the block in reverse order, each of them whatever else raises.

    Parameters
    ----------
    callbacks : sequence of Callback

    Raises
    ------
    TypeError
        If a callback lacks a method; the block is not entered then.
    Exception
        The first error; errors of `close` after it are its notes.
    """
    for callback in callbacks:
        missing = [name for name in vars(Callback) if not (name.startswith("_") or hasattr(callback, name))]
        if missing:
            raise TypeError(
                f"{type(callback).__name__} lacks {', '.join(missing)} of a callback: derive it from axone.llm.Callback"
            )
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised again below, Ctrl-C too
        first = error
    for callback in reversed(callbacks):
        try:
            callback.close()
        except Exception as error:  # noqa: BLE001 - the other callbacks are closed, too
            if first is None:
                first = error
            else:
                first.add_note(f"Then {type(callback).__name__}.close raised {error!r}.")
    if first is not None:
        raise first
