"""Loggers: progress bar, samples, metrics file, loss plot and TensorBoard."""

import io
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from tensorboardX.proto.event_pb2 import Event

from axone.llm import (
    Callback,
    EndEvent,
    EvaluationEvent,
    LanguageModel,
    LossPlot,
    MetricsFile,
    MissingDependencyError,
    ProgressBar,
    SampleText,
    StartEvent,
    StepEvent,
    TensorBoard,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    read_metrics,
)
from axone.llm.training import loss_plot

PNG = b"\x89PNG\r\n\x1a\n"
START = StartEvent(step=0, total_steps=4, tokens_per_step=32, run=None)
END = EndEvent("interrupted", 0, None, None, None, None, 1.0, None)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def fit(model: LanguageModel, dataset: TokenDataset, stream: io.StringIO, folder: Path) -> None:
    config = TrainerConfig(steps=4, batch_size=2, context_length=16, eval_every=2, workers=1)
    progress_bar = ProgressBar(stream, every=0.0)
    generator = TextGenerator(model, dataset.tokenizer)
    callbacks = [
        progress_bar,
        SampleText(generator, progress_bar, prompt="the", max_new_tokens=5),
        MetricsFile(folder / "metrics.jsonl"),
        LossPlot(folder / "loss.png"),
    ]
    Trainer(model, *dataset.split(), config, callbacks).fit()


def test_lines_are_written_without_a_terminal(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    stream = io.StringIO()
    fit(model, dataset, stream, tmp_path)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("step 1/4, loss 3.")
    assert lines[0].endswith(" left")
    (evaluation,) = (line for line in lines if line.startswith("step 2: validation loss 3."))
    assert " nats per token, " in evaluation
    assert evaluation.endswith(" bits per byte")
    assert any(line.startswith("    | the") for line in lines)
    assert "\r" not in stream.getvalue()


def test_a_bar_is_drawn_in_a_notebook(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    fit(model, dataset, stream, tmp_path)
    assert not stream.isatty()
    assert "step 4/4 |" in stream.getvalue()


def test_the_stream_is_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressBar().write("text")
    assert capsys.readouterr().err == "text\n"


def test_a_bar_is_drawn_in_a_terminal(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    stream = Terminal()
    fit(model, dataset, stream, tmp_path)
    assert "step 4/4 |" in stream.getvalue()
    assert "tokens/s" in stream.getvalue()


def test_the_bar_is_closed_before_later_callbacks_write_their_last_lines() -> None:
    stream = Terminal()
    progress_bar = ProgressBar(stream)
    progress_bar.on_start(START)
    assert not stream.getvalue().endswith("\n")
    progress_bar.on_end(END)
    assert stream.getvalue().endswith("\n")


def test_metrics_and_plot_are_files(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    fit(model, dataset, io.StringIO(), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["step", "step", "evaluation", "step", "step", "evaluation", "end"]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] != "end")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_metrics_are_read_up_to_a_line_cut_short(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(step_line(1) + b'{"kind": "st')
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_metrics_continue_after_the_checkpoint(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    fit(model, dataset, io.StringIO(), tmp_path)
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"kind": "st')
    callback = MetricsFile(metrics)
    callback.on_start(StartEvent(step=2, total_steps=4, tokens_per_step=32, run=None))
    callback.on_step(StepEvent(3, 1.0, 0.1, 1.0, 0.1, 320.0))
    callback.on_end(EndEvent("finished", 3, None, None, None, None, 1.0, None))
    callback.close()
    lines = [(line["kind"], line["step"]) for line in read_metrics(metrics)]
    assert lines == [("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("end", 3)]


def step_line(step: int, **changes: Any) -> bytes:
    """Return the line of a step in a metrics file, with some fields changed."""
    numbers = {"loss": 1.0, "learning_rate": 0.1, "gradient_norm": 1.0, "seconds": 0.1, "tokens_per_second": 320.0}
    return json.dumps({"kind": "step", "step": step, **numbers, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"5",
        b'{"kind": "step"}',
        b'{"kind": "step", "step": 2}',
        b'{"kind": "evaluation", "step": 2}',
        b'{"kind": "step", "step": "x"}',
        b'{"kind": "step", "step": 1e999}',
        b'{"kind": "step\xff", "step": 2}',
        step_line(2, loss="low"),
        step_line(2, loss=None),
        step_line(2, loss=[1.0]),
        step_line(2, learning_rate=True),
        step_line(2, loss=10**400),
        step_line(2, loss=float("nan")),
        b"[" * 100_000,
        b"\0",
    ],
)
def test_a_damaged_line_ends_the_metrics(tmp_path: Path, line: bytes) -> None:
    """A line without its numbers was read, and the loss plot then raised a KeyError after the training."""
    (tmp_path / "metrics.jsonl").write_bytes(step_line(1) + line + b"\n" + step_line(3))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


@pytest.fixture
def plotted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Record the x values of every line that matplotlib plots."""
    lines: list[tuple[int, ...]] = []
    plot = Axes.plot

    def spy(axes: Axes, x: Any, *values: Any, **options: Any) -> Any:
        lines.append(tuple(x))
        return plot(axes, x, *values, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    return lines


@pytest.mark.parametrize("metrics_first", [True, False])
def test_the_loss_plot_does_not_depend_on_the_order_of_callbacks(
    tmp_path: Path, plotted: list[tuple[int, ...]], metrics_first: bool
) -> None:
    """LossPlot read the file of a MetricsFile at the end, which must have been attached before it."""
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(b"".join(map(step_line, (1, 2, 3))))
    callbacks: list[Callback] = [LossPlot(tmp_path / "loss.png", metrics=metrics), MetricsFile(metrics)]
    callbacks = callbacks[::-1] if metrics_first else callbacks
    for callback in callbacks:
        callback.on_start(StartEvent(step=2, total_steps=4, tokens_per_step=32, run=None))
    for callback in callbacks:
        callback.on_step(StepEvent(3, 1.0, 0.1, 1.0, 0.1, 320.0))
        callback.on_evaluation(EvaluationEvent(3, 1.0, 2.0))
    for callback in callbacks:
        callback.on_end(END)
        callback.close()
    assert plotted == [(1, 2, 3), (1, 2, 3), (1, 2, 3), (3,)]
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_the_loss_plot_is_drawn_after_an_evaluation_unless_the_last_plot_is_recent(
    tmp_path: Path, plotted: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    plot = LossPlot(tmp_path / "loss.png")
    draw = plot.draw

    def slow() -> None:
        draw()
        now[0] += 2.0

    monkeypatch.setattr(plot, "draw", slow)
    plot.on_start(START)
    for step, moment in ((1, 10.0), (2, 40.0), (3, 60.0)):
        now[0] = moment
        plot.on_step(StepEvent(step, 1.0, 0.1, 1.0, 0.1, 320.0))
        plot.on_evaluation(EvaluationEvent(step, 1.0, 2.0))
    assert plotted[3::4] == [(1,), (1, 2, 3)]  # the evaluation at 40 s is less than 20 times 2 s after the first plot
    plot.on_end(END)
    assert len(plotted) == 8  # the picture is up to date
    plot.on_evaluation(EvaluationEvent(3, 1.0, 2.0))
    plot.on_end(END)
    assert plotted[11] == (1, 2, 3, 3)


@pytest.mark.parametrize("count", [10, 60, 2000])
def test_the_ends_of_the_smoothed_loss_are_means(count: int) -> None:
    noise = np.random.default_rng(0).normal(size=count)
    smoothed = loss_plot._smooth(noise.tolist())
    reach = max(count // 100, min(count // 10, 5))
    assert smoothed[-1] == pytest.approx(noise[-reach - 1 :].mean())
    assert smoothed[0] == pytest.approx(noise[: reach + 1].mean())
    assert smoothed[count // 2] == pytest.approx(noise[count // 2 - reach : count // 2 + reach + 1].mean())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no symbolic links for all users")
def test_the_loss_plot_and_the_metrics_never_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my own", encoding="utf-8")
    for name in ("loss.png", "metrics.jsonl"):
        (tmp_path / name).symlink_to("mine.txt")
    for callback in (LossPlot(tmp_path / "loss.png"), MetricsFile(tmp_path / "metrics.jsonl")):
        callback.on_start(START)
        callback.on_end(END)
        callback.close()
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "my own"
    assert not (tmp_path / "loss.png").is_symlink()


def test_tensorboard_receives_every_number(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    config = TrainerConfig(steps=4, batch_size=2, context_length=16, eval_every=2, workers=1)
    Trainer(model, *dataset.split(), config, [TensorBoard(tmp_path)], run=tmp_path / "run").fit()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    scalars = [(value.tag, event.step, value.simple_value) for event in events(path) for value in event.summary.value]
    tags = {tag for tag, _, _ in scalars}
    assert tags == {
        "training/loss", "training/learning_rate", "training/gradient_norm", "training/tokens_per_second",
        "validation/loss", "validation/bits_per_byte",
    }  # fmt: skip
    assert [step for tag, step, _ in scalars if tag == "training/loss"] == [1, 2, 3, 4]
    assert [step for tag, step, _ in scalars if tag == "validation/loss"] == [2, 4]
    assert all(np.isfinite(value) for _, _, value in scalars)


@pytest.mark.parametrize(
    ("library", "use", "extra"),
    [
        ("tensorboardX", TensorBoard, "tensorboard"),
        ("tqdm", lambda _: ProgressBar(Terminal()).on_start(START), "report"),
        ("matplotlib", lambda folder: LossPlot(folder / "loss.png"), "report"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, use: Callable[[Path], object], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "axone-llm\[{extra}\]"'):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def events(path: Path) -> list[Event]:
    """Read the records of an event file: each is its length, a checksum, the event and another checksum."""
    content, found, place = path.read_bytes(), [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(Event.FromString(content[place + 12 : place + 12 + length]))
        place += length + 16
    return found


class Fails(Callback):
    """Raises at the first step."""

    def on_step(self, event: StepEvent) -> None:  # noqa: ARG002
        raise OSError("stop")


def test_an_error_leaves_no_open_bar_and_no_unwritten_line(
    model: LanguageModel, dataset: TokenDataset, tmp_path: Path
) -> None:
    stream, metrics = Terminal(), tmp_path / "metrics.jsonl"
    callbacks: list[Callback] = [ProgressBar(stream), MetricsFile(metrics), TensorBoard(tmp_path / "board"), Fails()]
    config = TrainerConfig(steps=2, batch_size=2, context_length=16, workers=1)
    with pytest.raises(OSError, match="stop"):
        Trainer(model, *dataset.split(), config, callbacks).fit()
    assert stream.getvalue().endswith("\n")  # tqdm ends the line of a bar that is closed
    assert [line["step"] for line in read_metrics(metrics)] == [1]
    (path,) = (tmp_path / "board").glob("events.out.tfevents.*")
    assert {event.step for event in events(path)} == {0, 1}
    for callback in callbacks:
        callback.close()  # a second time, which does nothing
