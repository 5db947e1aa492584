"""What training shows and keeps."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from axone.llm import Callback, End, LanguageModel, Start, Step, TextGenerator, TokenDataset, Trainer, TrainerConfig
from axone.llm.training.loggers import LossPlot, MetricsFile, Progress, Samples, TensorBoard, read_metrics

PNG = b"\x89PNG\r\n\x1a\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def fit(model: LanguageModel, dataset: TokenDataset, stream: io.StringIO, folder: Path) -> None:
    config = TrainerConfig(steps=4, batch_size=2, context_length=16, eval_every=2, workers=1)
    progress = Progress(stream, every=0.0)
    generator = TextGenerator(model, dataset.tokenizer)
    metrics = folder / "metrics.jsonl"
    callbacks = [
        progress,
        Samples(generator, progress, prompt="the", tokens=5),
        MetricsFile(metrics),
        LossPlot(metrics, folder / "loss.png"),
    ]
    Trainer(model, *dataset.split(), config, callbacks).fit()


def test_without_a_terminal_there_are_plain_lines(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    stream = io.StringIO()
    fit(model, dataset, stream, tmp_path)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("step 1/4, loss 3.")
    assert lines[0].endswith(" left")
    assert any(line.startswith("step 2: validation loss 3.") for line in lines)
    assert any(line.startswith("    | the") for line in lines)
    assert "\r" not in stream.getvalue()


def test_in_a_terminal_there_is_a_bar(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    stream = Terminal()
    fit(model, dataset, stream, tmp_path)
    assert "step 4/4 |" in stream.getvalue()
    assert "tokens/s" in stream.getvalue()


def test_the_bar_ends_before_what_is_said_in_the_end() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.on_start(Start(step=0, total_steps=4, tokens_per_step=32, run=None))
    assert not stream.getvalue().endswith("\n")
    progress.on_end(End("interrupted", 0, None, None, None, 1.0, None))
    assert stream.getvalue().endswith("\n")


def test_metrics_and_plot_are_files(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    fit(model, dataset, io.StringIO(), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["step", "step", "evaluation", "step", "step", "evaluation", "end"]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] != "end")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_metrics_cut_short_are_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n{"kind": "st', encoding="utf-8")
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_metrics_go_on_after_the_checkpoint(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    fit(model, dataset, io.StringIO(), tmp_path)
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"kind": "st')
    callback = MetricsFile(metrics)
    callback.on_start(Start(step=2, total_steps=4, tokens_per_step=32, run=None))
    callback.on_step(Step(3, 1.0, 0.1, 1.0, 0.1, 320.0))
    callback.on_end(End("finished", 3, None, None, None, 1.0, None))
    callback.close()
    lines = [(line["kind"], line["step"]) for line in read_metrics(metrics)]
    assert lines == [("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("end", 3)]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"5",
        b'{"kind": "step"}',
        b'{"kind": "step", "step": "x"}',
        b'{"kind": "step", "step": 1e999}',
        b'{"kind": "step\xff", "step": 2}',
        b"[" * 100_000,
        b"\0",
    ],
)
def test_what_is_no_metric_ends_the_file(tmp_path: Path, line: bytes) -> None:
    good = b'{"kind": "step", "step": 1}'
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good, line, good, b""]))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_tensorboard_gets_every_number(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
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


def test_without_tensorboardx_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install axone-llm\[tensorboard\]"):
        TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []


def events(path: Path) -> list[Event]:
    """Read the records of an event file: each is its length, a checksum, the event and another checksum."""
    content, found, place = path.read_bytes(), [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(Event.FromString(content[place + 12 : place + 12 + length]))
        place += length + 16
    return found


class Closes(Callback):
    """Notes when it is closed, and raises where it is told to."""

    def __init__(self, name: str, closed: list[str], *, step: str = "", close: str = "") -> None:
        self._name, self._closed, self._step, self._close = name, closed, step, close

    def on_step(self, event: Step) -> None:  # noqa: ARG002 - at any
        if self._step:
            raise OSError(self._step)

    def on_end(self, event: End) -> None:  # noqa: ARG002
        self._closed.append(f"end of {self._name}")

    def close(self) -> None:
        self._closed.append(self._name)
        if self._close:
            raise RuntimeError(self._close)


def fit_with(model: LanguageModel, dataset: TokenDataset, callbacks: list[Callback]) -> None:
    config = TrainerConfig(steps=2, batch_size=2, context_length=16, workers=1)
    Trainer(model, *dataset.split(), config, callbacks).fit()


def test_callbacks_are_closed_the_last_first_when_training_has_ended(
    model: LanguageModel, dataset: TokenDataset
) -> None:
    closed: list[str] = []
    fit_with(model, dataset, [Closes("a", closed), Closes("b", closed)])
    assert closed == ["end of a", "end of b", "b", "a"]


def test_callbacks_are_closed_after_an_error_and_none_of_theirs_hides_it(
    model: LanguageModel, dataset: TokenDataset
) -> None:
    closed: list[str] = []
    callbacks: list[Callback] = [
        Closes("a", closed),
        Closes("b", closed, close="closing b"),
        Closes("c", closed, step="the disk is full"),
    ]
    with pytest.raises(OSError, match="the disk is full") as caught:
        fit_with(model, dataset, callbacks)
    assert closed == ["c", "b", "a"]
    assert caught.value.__notes__ == ["Then Closes.close raised RuntimeError('closing b')."]


def test_an_error_in_closing_is_raised_after_the_others_are_closed(model: LanguageModel, dataset: TokenDataset) -> None:
    closed: list[str] = []
    with pytest.raises(RuntimeError, match="closing b"):
        fit_with(model, dataset, [Closes("a", closed), Closes("b", closed, close="closing b")])
    assert closed[-2:] == ["b", "a"]


class Recorder:
    """Has some of the methods of a callback, and is none."""

    def on_start(self, event: Start) -> None: ...

    def on_step(self, event: Step) -> None: ...

    def on_evaluation(self, event: object) -> None: ...

    def on_end(self, event: object) -> None: ...


def test_what_lacks_a_method_is_refused_before_training(model: LanguageModel, dataset: TokenDataset) -> None:
    told: list[str] = []
    with pytest.raises(TypeError) as raised:
        fit_with(model, dataset, [Closes("a", told), Recorder()])  # type: ignore[list-item]  # the point
    assert str(raised.value) == (
        "a callback hears every event, and Recorder has no on_checkpoint, close: derive it from axone.llm.Callback"
    )
    assert told == []


def test_a_callback_with_all_methods_needs_no_base_class(model: LanguageModel, dataset: TokenDataset) -> None:
    class Whole(Recorder):
        closed = False

        def on_checkpoint(self, event: object) -> None: ...

        def close(self) -> None:
            self.closed = True

    whole = Whole()
    fit_with(model, dataset, [whole])
    assert whole.closed


def test_an_error_leaves_no_bar_open_and_no_line_unwritten(
    model: LanguageModel, dataset: TokenDataset, tmp_path: Path
) -> None:
    stream, metrics = Terminal(), tmp_path / "metrics.jsonl"
    callbacks: list[Callback] = [
        Progress(stream),
        MetricsFile(metrics),
        TensorBoard(tmp_path / "board"),
        Closes("c", [], step="stop"),
    ]
    with pytest.raises(OSError, match="stop"):
        fit_with(model, dataset, callbacks)
    assert stream.getvalue().endswith("\n")  # where tqdm leaves the cursor of a bar that is closed
    assert [line["step"] for line in read_metrics(metrics)] == [1]
    (path,) = (tmp_path / "board").glob("events.out.tfevents.*")
    assert {event.step for event in events(path)} == {0, 1}
    for callback in callbacks:
        callback.close()  # again, or before a start: nothing
