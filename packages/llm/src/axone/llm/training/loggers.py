"""Loggers: callbacks that show and record a training, as a progress bar, samples or TensorBoard files.

Libraries are imported at their first use: ``pip install axone-llm[report]``, or ``axone-llm[tensorboard]``.
"""

from __future__ import annotations

import sys
import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from axone.llm.errors import MissingDependencyError
from axone.llm.generation.text import TextGenerator
from axone.llm.training.callbacks import (
    Callback,
    CheckpointEvent,
    EndEvent,
    EvaluationEvent,
    StartEvent,
    StepEvent,
)

if TYPE_CHECKING:
    from tqdm import tqdm

_NOTEBOOK = "ipykernel.iostream"  # module of the streams in a notebook, which carry out a carriage return


def format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str

    Examples
    --------
    >>> from axone.llm import format_duration
    >>> format_duration(7.2), format_duration(125), format_duration(7300)
    ('7 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ProgressBar(Callback):
    """Progress bar in a terminal or a notebook; elsewhere a line every few seconds.

    Parameters
    ----------
    stream : text file, optional
        By default ``sys.stderr``.
    every : float, default 10.0
        Seconds between lines.
    """

    def __init__(self, stream: TextIO | None = None, *, every: float = 10.0) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every = every
        self._bar: tqdm[Any] | None = None
        self._total = self._first = 0
        self._began = self._shown = 0.0

    def on_start(self, event: StartEvent) -> None:
        """Open the bar."""
        self._total, self._first = event.total_steps, event.step
        self._began = self._shown = time.monotonic()
        if self._stream.isatty() or type(self._stream).__module__ == _NOTEBOOK:
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise MissingDependencyError("progress bars", "tqdm", "axone-llm[report]") from error
            self._bar = tqdm(
                total=event.total_steps,
                initial=event.step,
                file=self._stream,
                unit="step",
                dynamic_ncols=True,
                bar_format=self._format(""),
            )

    def on_step(self, event: StepEvent) -> None:
        """Advance the bar, or write a line."""
        if self._bar is not None:
            self._bar.bar_format = self._format(f"loss {event.loss:.3f}, {event.tokens_per_second:,.0f} tokens/s, ")
            self._bar.update()
            return
        now = time.monotonic()
        if now - self._shown >= self._every or event.step == self._total:
            self._shown = now
            left = (now - self._began) / (event.step - self._first) * (self._total - event.step)
            self.write(
                f"step {event.step}/{self._total}, loss {event.loss:.3f}, {event.tokens_per_second:,.0f} tokens/s, "
                f"{format_duration(left)} left"
            )

    @staticmethod
    def _format(figures: str) -> str:
        """Return tqdm's format of a line with the figures of a step."""
        return f"step {{n_fmt}}/{{total_fmt}} |{{bar}}| {figures}{{remaining}} left"

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Write the loss on held-out text."""
        self.write(
            f"step {event.step}: validation loss {event.loss:.4f} nats per token, {event.bits_per_byte:.3f} bits per byte"
        )

    def on_end(self, event: EndEvent) -> None:  # noqa: ARG002
        """Close the bar, so that later output starts on a new line."""
        self.close()

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def write(self, text: str) -> None:
        """Write lines above the bar.

        Parameters
        ----------
        text : str
            One or more lines, without the last line end.
        """
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)


class SampleText(Callback):
    """Sample of the model's text after each evaluation.

    Parameters
    ----------
    generator : TextGenerator
        Generator of the model that is trained.
    progress_bar : ProgressBar
        Writes the sample.
    prompt : str
    max_new_tokens : int, default 120
    seed : int, default 0
        Seed of every sample: two samples differ only by the weights.
    """

    def __init__(
        self,
        generator: TextGenerator,
        progress_bar: ProgressBar,
        *,
        prompt: str,
        max_new_tokens: int = 120,
        seed: int = 0,
    ) -> None:
        self._generator = generator
        self._progress_bar = progress_bar
        self._prompt = prompt
        self._max_new_tokens = max_new_tokens
        self._seed = seed

    def on_evaluation(self, event: EvaluationEvent) -> None:  # noqa: ARG002
        """Generate a sample and write it, indented."""
        rng = np.random.default_rng(self._seed)
        pieces = self._generator.stream(self._prompt, max_new_tokens=self._max_new_tokens, temperature=0.8, rng=rng)
        text = self._prompt + "".join(pieces)
        self._progress_bar.write("\n".join(f"    | {line}" for line in text.strip("\n").split("\n")))


class TensorBoard(Callback):
    """Event files for TensorBoard: ``pip install axone-llm[tensorboard]``.

    Parameters
    ----------
    folder : path
        Folder of the files; a resumed run adds a file.

    Raises
    ------
    MissingDependencyError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError("event files", "tensorboardX", "axone-llm[tensorboard]") from error
        self._open = SummaryWriter
        self._folder = str(Path(folder).absolute())
        self._writer: Any = None

    def on_start(self, event: StartEvent) -> None:
        """Open a file; TensorBoard then hides the steps after the checkpoint in older files."""
        self._writer = self._open(self._folder, purge_step=event.step + 1)

    def on_step(self, event: StepEvent) -> None:
        """Write the scalars of a step."""
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
            self._writer.add_scalar(f"training/{name}", getattr(event, name), event.step)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Write the scalars of an evaluation."""
        self._writer.add_scalar("validation/loss", event.loss, event.step)
        self._writer.add_scalar("validation/bits_per_byte", event.bits_per_byte, event.step)

    def on_checkpoint(self, event: CheckpointEvent) -> None:  # noqa: ARG002
        """Flush the file, so that it holds every step up to the checkpoint."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
