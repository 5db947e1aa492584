"""LossPlot: training loss, validation loss and learning rate of a training as a picture, by ``pip install axone-llm[report]``."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from axone.llm.errors import MissingDependencyError
from axone.llm.storage.atomic import write_file
from axone.llm.training.callbacks import Callback, EndEvent, EvaluationEvent, StartEvent, StepEvent
from axone.llm.training.metrics import read_metrics

_SHARE = 20  # a plot that took a second is drawn again after twenty


class LossPlot(Callback):
    """Plot of training loss, validation loss and learning rate, drawn after evaluations and at the end.

    Drawing takes at most about a twentieth of the time: after an evaluation that follows the last plot too soon, the plot
    is not drawn.

    Parameters
    ----------
    path : path
        Of the picture, as PNG.
    metrics : path, optional
        File of a `MetricsFile`: the plot of a resumed run then begins with the steps before its checkpoint.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """

    def __init__(self, path: str | PathLike[str], *, metrics: str | PathLike[str] | None = None) -> None:
        if find_spec("matplotlib") is None:  # importing it takes a second or two, which a first plot can wait for
            raise MissingDependencyError("loss plots", "matplotlib", "axone-llm[report]")
        self._path = Path(path).absolute()
        self._metrics = None if metrics is None else Path(metrics)
        self._steps: list[tuple[int, float, float]] = []  # step, loss, learning rate
        self._evaluations: list[tuple[int, float]] = []  # step, loss
        self._drawn: tuple[int, int] | None = None  # numbers of steps and evaluations in the picture
        self._next = 0.0  # time of the next plot

    def on_start(self, event: StartEvent) -> None:
        """Read the steps before the checkpoint of a resumed run."""
        lines = [] if self._metrics is None else read_metrics(self._metrics)
        lines = [line for line in lines if line["step"] <= event.step]
        self._steps = [(line["step"], line["loss"], line["learning_rate"]) for line in lines if line["kind"] == "step"]
        self._evaluations = [(line["step"], line["loss"]) for line in lines if line["kind"] == "evaluation"]

    def on_step(self, event: StepEvent) -> None:
        """Record the loss and the learning rate of a step."""
        self._steps.append((event.step, event.loss, event.learning_rate))

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Record a validation loss, and draw the plot."""
        self._evaluations.append((event.step, event.loss))
        began = time.monotonic()
        if began >= self._next:
            self.draw()
            ended = time.monotonic()
            self._next = ended + _SHARE * (ended - began)

    def on_end(self, event: EndEvent) -> None:  # noqa: ARG002
        """Draw the plot."""
        if self._drawn != (len(self._steps), len(self._evaluations)):
            self.draw()

    def draw(self) -> None:
        """Draw the plot of all steps so far, and write the picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6), layout="constrained")
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        if self._steps:
            steps, values, learning_rates = zip(*self._steps)
            losses.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=0.8)
            losses.plot(steps, _smooth(values), color="tab:blue", label="training, smoothed")
            rates.plot(steps, learning_rates, color="tab:gray")
        if self._evaluations:
            steps, values = zip(*self._evaluations)
            label = f"validation, finally {values[-1]:.3f}"
            losses.plot(steps, values, color="tab:orange", marker="o", markersize=4, label=label)
        if self._steps or self._evaluations:
            losses.legend()
        losses.set_ylabel("loss, nats per token")
        rates.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
        for axes in (losses, rates):
            axes.grid(alpha=0.3)
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120, format="png")
        write_file(self._path, picture.getvalue())
        self._drawn = len(self._steps), len(self._evaluations)


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the moving average over a fiftieth of all values and at least ten, over half as many at the ends."""
    reach = max(len(values) // 100, min(len(values) // 10, 5))
    sums = list(itertools.accumulate(values, initial=0.0))
    windows = [(max(i - reach, 0), min(i + reach + 1, len(values))) for i in range(len(values))]
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in windows]
