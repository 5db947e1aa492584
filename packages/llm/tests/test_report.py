"""What training shows and keeps."""

import io
from pathlib import Path

import numpy as np

from axone.llm import LanguageModel, TextGenerator, TokenDataset, Trainer, TrainerConfig
from axone.llm.report import LossPlot, MetricsFile, Progress, Samples, read_metrics

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


def test_metrics_and_plot_are_files(model: LanguageModel, dataset: TokenDataset, tmp_path: Path) -> None:
    fit(model, dataset, io.StringIO(), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["step", "step", "evaluation", "step", "step", "evaluation", "end"]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] != "end")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_metrics_cut_short_are_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n{"kind": "st', encoding="utf-8")
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]
