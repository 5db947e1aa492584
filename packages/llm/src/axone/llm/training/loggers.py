"""Callbacks that show and keep what happens in training: progress, samples, metrics, a plot.

The libraries for the bar and the plot are imported when they are needed: ``pip install axone-llm[report]``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from axone.llm.generation.generate import TextGenerator
from axone.llm.training.callbacks import Callback, End, Evaluation, Saved, Start, Step
from axone.llm.training.metrics import MetricsFile, read_metrics

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["LossPlot", "MetricsFile", "Progress", "Samples", "TensorBoard", "duration", "read_metrics"]


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str

    Examples
    --------
    >>> from axone.llm.training.loggers import duration
    >>> duration(7.2), duration(125), duration(7300)
    ('7 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress(Callback):
    """A progress bar in a terminal, and a plain line every few seconds elsewhere.

    Parameters
    ----------
    stream : text file
        Such as ``sys.stderr``.
    every : float, default 10.0
        Seconds between plain lines.
    """

    def __init__(self, stream: TextIO, *, every: float = 10.0) -> None:
        self._stream = stream
        self._every = every
        self._bar: tqdm[Any] | None = None
        self._total = self._first = 0
        self._began = self._shown = 0.0

    def on_start(self, event: Start) -> None:
        """Open the bar."""
        self._total, self._first = event.total_steps, event.step
        self._began = self._shown = time.monotonic()
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=event.total_steps,
                initial=event.step,
                file=self._stream,
                unit="step",
                dynamic_ncols=True,
                bar_format=self._format(""),
            )

    def on_step(self, event: Step) -> None:
        """Move the bar, or write a line now and then."""
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
                f"{duration(left)} left"
            )

    @staticmethod
    def _format(figures: str) -> str:
        """Return tqdm's format of a line with the figures of a step."""
        return f"step {{n_fmt}}/{{total_fmt}} |{{bar}}| {figures}{{remaining}} left"

    def on_evaluation(self, event: Evaluation) -> None:
        """Write the loss on held-out text."""
        self.write(
            f"step {event.step}: validation loss {event.loss:.4f} nats a token, {event.bits_per_byte:.3f} bits a byte"
        )

    def on_end(self, event: End) -> None:  # noqa: ARG002
        """Close the bar: what others say in the end stands below it."""
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
            One or more, without the last line's end.
        """
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)


class Samples(Callback):
    """A short text by the model after each evaluation.

    Parameters
    ----------
    generator : TextGenerator
        Of the model that is trained.
    progress : Progress
        Where to write.
    prompt : str
        What the text goes on from.
    tokens : int, default 120
        How long it is.
    seed : int, default 0
        The same draws each time, so that samples compare.
    """

    def __init__(
        self, generator: TextGenerator, progress: Progress, *, prompt: str, tokens: int = 120, seed: int = 0
    ) -> None:
        self._generator = generator
        self._progress = progress
        self._prompt = prompt
        self._tokens = tokens
        self._seed = seed

    def on_evaluation(self, event: Evaluation) -> None:  # noqa: ARG002
        """Generate and write a sample, indented."""
        rng = np.random.default_rng(self._seed)
        pieces = self._generator.stream(self._prompt, max_new_tokens=self._tokens, temperature=0.8, rng=rng)
        text = self._prompt + "".join(pieces)
        self._progress.write("\n".join(f"    | {line}" for line in text.strip("\n").split("\n")))


class LossPlot(Callback):
    """A picture of training and validation loss and the learning rate, drawn when training ends.

    Parameters
    ----------
    metrics : path
        The file that `MetricsFile` writes; attach that callback before this one.
    path : path
        Where the picture goes, as PNG.
    """

    def __init__(self, metrics: str | PathLike[str], path: str | PathLike[str]) -> None:
        self._metrics = Path(metrics)
        self._path = Path(path)

    def on_end(self, event: End) -> None:  # noqa: ARG002
        """Draw."""
        from matplotlib.figure import Figure

        lines = read_metrics(self._metrics)
        steps = [line for line in lines if line["kind"] == "step"]
        evaluations = [line for line in lines if line["kind"] == "evaluation"]
        figure = Figure(figsize=(8, 6), layout="constrained")
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        x, values = [line["step"] for line in steps], [line["loss"] for line in steps]
        losses.plot(x, values, color="tab:blue", alpha=0.25, linewidth=0.8)
        losses.plot(x, _smooth(values), color="tab:blue", label="training, smoothed")
        if evaluations:
            losses.plot(
                [line["step"] for line in evaluations],
                [line["loss"] for line in evaluations],
                color="tab:orange",
                marker="o",
                markersize=4,
                label=f"validation, {evaluations[-1]['loss']:.3f} in the end",
            )
        losses.set_ylabel("loss, nats a token")
        losses.legend()
        rates.plot(x, [line["learning_rate"] for line in steps], color="tab:gray")
        rates.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
        for axes in (losses, rates):
            axes.grid(alpha=0.3)
        figure.savefig(self._path, dpi=120)


class TensorBoard(Callback):
    """Files that TensorBoard shows: ``pip install axone-llm[tensorboard]``.

    Parameters
    ----------
    folder : path
        Where they go; a run that is resumed goes on there.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard's files need tensorboardX: pip install axone-llm[tensorboard]") from error
        self._open = SummaryWriter
        self._folder = str(folder)
        self._writer: Any = None

    def on_start(self, event: Start) -> None:
        """Open a file; what came after the checkpoint is not shown any more."""
        self._writer = self._open(self._folder, purge_step=event.step + 1)

    def on_step(self, event: Step) -> None:
        """Write what a step tells."""
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
            self._writer.add_scalar(f"training/{name}", getattr(event, name), event.step)

    def on_evaluation(self, event: Evaluation) -> None:
        """Write what an evaluation tells."""
        self._writer.add_scalar("validation/loss", event.loss, event.step)
        self._writer.add_scalar("validation/bits_per_byte", event.bits_per_byte, event.step)

    def on_checkpoint(self, event: Saved) -> None:  # noqa: ARG002
        """See that the file holds all up to the checkpoint."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _smooth(values: Sequence[float]) -> list[float]:
    """Return at each place the mean over a fiftieth of all around it, over fewer near the ends."""
    reach = len(values) // 100
    sums = list(itertools.accumulate(values, initial=0.0))
    reaches = [min(reach, i, len(values) - 1 - i) for i in range(len(values))]
    return [(sums[i + r + 1] - sums[i - r]) / (2 * r + 1) for i, r in enumerate(reaches)]
