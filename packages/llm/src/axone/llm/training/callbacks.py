"""What a trainer tells those who listen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Outcome = Literal["finished", "stopped", "interrupted", "terminated"]


@dataclass(frozen=True)
class Start:
    """Training is about to begin, or to go on.

    Attributes
    ----------
    step : int
        The steps made before.
    total_steps : int
        The steps to be made in all.
    tokens_per_step : int
    run : Path or None
        The run's folder.
    """

    step: int
    total_steps: int
    tokens_per_step: int
    run: Path | None


@dataclass(frozen=True)
class Step:
    """One step was made.

    Attributes
    ----------
    step : int
        The steps made so far.
    loss : float
        Of this step's batch, in nats a token.
    learning_rate : float
    gradient_norm : float
        Before clipping.
    seconds : float
        How long the step took.
    tokens_per_second : float
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Evaluation:
    """The held-out text was evaluated.

    Attributes
    ----------
    step : int
        The steps made so far.
    loss : float
        In nats a token.
    bits_per_byte : float
    """

    step: int
    loss: float
    bits_per_byte: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written.

    Attributes
    ----------
    step : int
        The steps made so far.
    path : Path
        Its folder.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class End:
    """Training has ended.

    Attributes
    ----------
    outcome : {"finished", "stopped", "interrupted", "terminated"}
        Whether all steps were made, the loss did not fall any more, or SIGINT or SIGTERM came.
    step : int
        The steps made in all.
    validation_loss : float or None
        The last one measured, in nats a token; None if none was.
    bits_per_byte : float or None
        The same in bits a byte.
    best_loss : float or None
        The lowest of the evaluations on the way, in nats a token.
    seconds : float
        How long it took.
    run : Path or None
        The run's folder.
    """

    outcome: Outcome
    step: int
    validation_loss: float | None
    bits_per_byte: float | None
    best_loss: float | None
    seconds: float
    run: Path | None


class Callback(Protocol):
    """Hears every event of a training. A subclass overrides what it cares for; the rest does nothing.

    `on_end` is told if a training ends as it should, interrupted ones too; `close` is called in any case, also after an
    error. What was opened is put in order there.

    Examples
    --------
    >>> from axone.llm import Callback, Step
    >>> class Losses(Callback):
    ...     def __init__(self) -> None:
    ...         self.losses: list[float] = []
    ...
    ...     def on_step(self, event: Step) -> None:
    ...         self.losses.append(event.loss)
    """

    def on_start(self, event: Start) -> None:
        """Training is about to begin."""
        return

    def on_step(self, event: Step) -> None:
        """A step was made."""
        return

    def on_evaluation(self, event: Evaluation) -> None:
        """The held-out text was evaluated."""
        return

    def on_checkpoint(self, event: Saved) -> None:
        """A checkpoint was written."""
        return

    def on_end(self, event: End) -> None:
        """Training has ended, without an error."""
        return

    def close(self) -> None:
        """Nothing more will be told. It comes last, also after an error, and perhaps without `on_start` before it."""
        return


@contextmanager
def closing(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Close callbacks at the end, the last first, whatever happens within and whatever one of them raises.

    Parameters
    ----------
    callbacks : sequence of Callback

    Raises
    ------
    TypeError
        If one lacks a method, before anything else.
    Exception
        The first error is raised; those of `close` that came after it are its notes.
    """
    for callback in callbacks:
        missing = [name for name in vars(Callback) if not (name.startswith("_") or hasattr(callback, name))]
        if missing:
            raise TypeError(
                f"a callback hears every event, and {type(callback).__name__} has no {', '.join(missing)}: derive it from "
                "axone.llm.Callback"
            )
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised again below, Ctrl-C too
        first = error
    for callback in reversed(callbacks):
        try:
            callback.close()
        except Exception as error:  # noqa: BLE001 - the others are to be closed too
            if first is None:
                first = error
            else:
                first.add_note(f"Then {type(callback).__name__}.close raised {error!r}.")
    if first is not None:
        raise first
