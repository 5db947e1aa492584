"""apps/train.py: a run from end to end, and wrong options."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import shakespeare, tokens, train, train_options
from axone.llm import PRESETS, LossPlot, MetricsFile, load
from axone.llm.runtime import resources, signals

App = Callable[[Callable[[], int], str], int]
TRAIN = Path(__file__).parents[3] / "apps" / "train.py"


def test_a_training_prints_plan_result_and_the_next_command(
    app: App, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 5") == 0
    out, err = capfd.readouterr()
    for line in (
        r"model +[\d,]+ parameters, context of 64 tokens",
        r"corpus +3,\d+ tokens, vocabulary of \d+ characters, the last 3\d\d tokens held out",
        r"estimate +\d+ s, \d+ MB",
        r"validation loss +\d\.\d+ nats per token, \d\.\d+ bits per byte",
        r"bigram baseline +\d\.\d+ nats per token",
        r"uv run apps/sample.py runs/hamlet-tiny",
    ):
        assert re.search(line, out), line
    assert "step 5: validation loss" in err
    run = tmp_path / "runs" / "hamlet-tiny"
    assert {path.name for path in run.iterdir()} == {"run.json", "metrics.jsonl", "loss.png", "checkpoints", "data"}


@pytest.mark.usefixtures("quick")
def test_a_second_run_gets_a_new_folder(app: App, text_file: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1") == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["hamlet-tiny", "hamlet-tiny-2"]


@pytest.mark.usefixtures("quick")
def test_init_starts_from_the_weights_of_a_run(
    app: App, text_file: Path, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"train.py --data {text_file} --preset tiny --steps 1 --init {trained} --out second"
    assert app(train.main, line) == 0
    assert "uv run apps/sample.py second" in capfd.readouterr().out


@pytest.mark.usefixtures("quick")
def test_subwords_are_trained_once(app: App, text_file: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"train.py --data {text_file} --tokenizer bpe --vocab-size 280 --preset tiny --steps 1"
    assert app(train.main, line) == 0
    out, err = capfd.readouterr()
    assert "nats per token" in out
    assert "tokenizer: 280 tokens trained in" in err
    (kept,) = cache.rglob("tokens.bin")
    (linked,) = Path("runs/hamlet-tiny/data").glob("tokens-*.bin")
    assert kept.samefile(linked)
    assert app(train.main, line) == 0
    assert "tokenizer:" not in capfd.readouterr().err
    text_file.write_text(text_file.read_text(encoding="utf-8").upper(), encoding="utf-8")
    assert app(train.main, line) == 0
    assert "tokenizer: 280 tokens trained in" in capfd.readouterr().err
    assert app(train.main, "train.py --resume runs/hamlet-tiny") == 0  # the run has its own tokens


@pytest.mark.usefixtures("quick")
def test_a_damaged_cache_is_written_again(
    app: App, text_file: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"train.py --data {text_file} --tokenizer bpe --vocab-size 280 --preset tiny --steps 1"
    assert app(train.main, line) == 0
    for name in ("tokens.bin", "tokens.bin.json", "tokenizer.json"):
        (kept,) = cache.rglob(name)
        content = kept.read_bytes()
        kept.unlink()
        kept.write_bytes(content[:-20])
        capfd.readouterr()
        assert app(train.main, line) == 0
        assert "tokenizer: 280 tokens trained in" in capfd.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_long_text_streams_through_a_file(
    app: App, text_file: Path, cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "IN_MEMORY", 100)
    monkeypatch.setattr(tokens, "PROGRESS_BAR", 100)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1 --out first") == 0
    _, err = capfd.readouterr()
    assert re.search(r"encoding: +0%.* 0.00/3.40k", err)
    assert len(list(cache.rglob("tokens.bin"))) == 1
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1 --init first") == 0
    assert len(list(cache.rglob("tokens.bin"))) == 2
    line = f"train.py --data {text_file} --tokenizer bpe --vocab-size 280 --preset tiny --steps 1"
    assert app(train.main, line) == 0
    _, err = capfd.readouterr()
    assert re.search(r"counting words: +0%.* 0.00/3.40k", err)


@pytest.mark.usefixtures("quick")
def test_options_reach_model_and_training(app: App, text_file: Path) -> None:
    line = (
        f"train.py --data {text_file} --preset tiny --steps 2 --out run --context-length 16 --num-layers 1 --num-heads 4 "
        "--num-kv-heads 2 --embed-dim 16 --hidden-dim 32 --dropout 0.1 --norm rms --position rotary --mlp swiglu --qk-norm "
        "--batch-size 3 --gradient-accumulation-steps 2 --sampling epoch --optimizer muon --learning-rate 0.01 --schedule linear "
        "--weight-decay 0.2 --max-grad-norm 0.5 --eval-every 1 --save-every 1 --early-stopping-patience 3 --workers 1 --seed 5 --validation 0.2"
    )
    assert app(train.main, line) == 0
    model, _ = load("run")
    shape = model.config
    assert (shape.context_length, shape.num_layers, shape.num_heads, shape.num_kv_heads) == (16, 1, 4, 2)
    assert (shape.embed_dim, shape.hidden_dim, shape.dropout) == (16, 32, 0.1)
    assert (shape.norm, shape.position, shape.mlp, shape.qk_norm) == ("rms", "rotary", "swiglu", True)
    options = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["trainer"]
    assert options["context_length"] == 16
    assert (options["batch_size"], options["gradient_accumulation_steps"], options["sampling"]) == (3, 2, "epoch")
    assert (options["optimizer"], options["learning_rate"], options["schedule"]) == ("muon", 0.01, "linear")
    assert (options["weight_decay"], options["max_grad_norm"], options["early_stopping_patience"]) == (0.2, 0.5, 3)
    assert (options["eval_every"], options["save_every"], options["workers"], options["seed"]) == (1, 1, 1, 5)


def test_memory_is_required_for_the_gradients_of_replicas_only(monkeypatch: pytest.MonkeyPatch) -> None:
    options = train_options.parse(["--preset", "tiny", "--batch-size", "1", "--workers", "400"])
    monkeypatch.setattr(resources, "available_memory", lambda: 1 << 24)
    model = train.new_model(options, options.plan.trainer_config(64), 30)
    assert model.num_parameters() * 4 * 400 > 1 << 24


@pytest.mark.usefixtures("quick")
def test_early_stopping_is_reported(app: App, text_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"train.py --data {text_file} --preset tiny --steps 50 --learning-rate 0 --eval-every 1 --early-stopping-patience 2"
    assert app(train.main, line) == 0
    out, _ = capfd.readouterr()
    assert "Stopped early after step 3: the validation loss no longer fell" in out


@pytest.mark.usefixtures("quick")
def test_a_prompt_that_cannot_be_encoded_is_replaced(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert options["prompt"] == "\n"
    options["prompt"] = "\N{SNOWMAN}"
    (trained / "run.json").write_text(json.dumps(options), encoding="utf-8")
    assert app(train.main, "train.py --resume run") == 0
    assert "uv run apps/sample.py run --prompt t\n" in capfd.readouterr().out


@pytest.mark.usefixtures("quick")
def test_event_files_are_written_on_request_and_after_resuming(
    app: App, text_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1 --out run --tensorboard") == 0
    (events,) = Path("run/tensorboard").iterdir()
    events.unlink()
    assert app(train.main, "train.py --resume run") == 0
    (events,) = Path("run/tensorboard").iterdir()
    assert events.stat().st_size > 0
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    for line in (f"train.py --data {text_file} --preset tiny --tensorboard", "train.py --resume run"):
        assert app(train.main, line) == 2
        assert "need tensorboardX, which is not installed" in capfd.readouterr().err.splitlines()[-1]


def test_a_diverged_training_ends_in_one_sentence(text_file: Path) -> None:
    options = [
        "--preset",
        "tiny",
        "--steps",
        "30",
        "--learning-rate",
        "1e30",
        "--max-grad-norm",
        "1e30",
        "--optimizer",
        "sgd",
    ]
    ended = subprocess.run(
        [sys.executable, str(TRAIN), "--data", str(text_file), *options],
        cwd=text_file.parent,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert re.fullmatch(r"train.py: error: .*lower the learning rate\s+", ended.stderr.decode())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--data missing.txt", "does not exist"),
        ("--data=", "--data ('') must be python, shakespeare, a file or a folder"),
        ("--preset=", "--preset ('') must be one of tiny, "),
        ("--data empty.txt", "is empty"),
        ("--data folder", "has no text files"),
        ("--data loop", "loop does not exist"),
        ("--data hamlet.txt --embed-dim 1000000000000000000000000000000 --num-heads 1", "MB of memory, and"),
        ("--data latin.txt", "is not valid UTF-8"),
        ("--data wide.txt", "has a NUL byte"),
        ("--data short.txt --preset tiny", "must be longer than --context-length (64)"),
        ("--data hamlet.txt --preset huge", "--preset ('huge') must be one of tiny, "),
        ("--data hamlet.txt --preset tiny --steps -5", "--steps (-5) must be at least 1"),
        ("--data hamlet.txt --preset tiny --workers 0", "--workers (0) must be at least 1"),
        ("--data hamlet.txt --steps 10 --warmup-steps 20", "--warmup-steps (20) must be at most steps (10)"),
        ("--data hamlet.txt --preset tiny --seed -1", "--seed (-1) must not be negative"),
        ("--data hamlet.txt --preset tiny --steps many", "invalid int value: 'many'"),
        ("--data hamlet.txt --preset tiny --out taken", "exists already: resume it, overwrite it, or name another"),
        (
            "--data hamlet.txt --preset tiny --out hamlet.txt --overwrite",
            "is not a run, and only a run can be overwritten",
        ),
        ("--data hamlet.txt --preset tiny --out hamlet.txt/run", "hamlet.txt/run: cannot be made"),
        ("--data hamlet.txt --preset tiny --init folder", "is not a model"),
        ("--data hamlet.txt --init folder --num-layers 3 --tokenizer bpe", "leave out --num-layers, --tokenizer"),
        ("--data hamlet.txt --tokenizer bpe --vocab-size 100", "--vocab-size (100) must be at least 256"),
        ("--data hamlet.txt --vocab-size 300", "--vocab-size requires --tokenizer bpe"),
        ("--data hamlet.txt --tokenizer words", "invalid choice: 'words'"),
        ("--data hamlet.txt --validation 1", "validation (1.0) must be in (0, 1)"),
        ("--data hamlet.txt --split document", "needs two documents, and there is one"),
        ("--data hamlet.txt --embed-dim 65 --num-heads 2", "--embed-dim (65) must be divisible by --num-heads (2)"),
        ("--data hamlet.txt --context-length 0", "--context-length (0) must be at least 1"),
        ("--data hamlet.txt --batch-size 0", "--batch-size (0) must be at least 1"),
        ("--data hamlet.txt --learning-rate nan", "--learning-rate (nan) must be finite"),
        (
            "--data hamlet.txt --min-learning-rate 1",
            "--min-learning-rate (1.0) must be between 0 and --learning-rate (0.02)",
        ),
        ("--data /dev/null", "is not a regular file"),
        ("--data hamlet.txt --dropout 2", "dropout"),
        ("--data hamlet.txt --max-grad-norm 0", "--max-grad-norm (0.0) must be positive"),
        ("--data hamlet.txt --max-grad-norm inf", "--max-grad-norm (inf) must be finite"),
        ("--resume folder", "folder: is not a run"),
        ("--resume missing", "missing: is not a folder: name a run"),
        ("--resume taken --batch-size 5", "--resume reads all options but --steps from the run"),
        ("--unknown", "--unknown is not an option: --help lists all options"),
        ("--stepz 5", "--stepz is not an option: did you mean --steps?"),
        ("hamlet.txt", "hamlet.txt needs an option: write --data hamlet.txt"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(
    app: App, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "wide.txt").write_bytes("words".encode("utf-16-le"))
    (tmp_path / "short.txt").write_text("a few words", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert app(train.main, f"train.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("train.py: error: ")
    assert reason in last
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_of_a_trained_model_are_not_trained_with_the_rates_of_new_ones() -> None:
    """Muon at 0.03 and AdamW at 0.02 would undo the weights of SmolLM2 within a few steps."""
    plans = [
        train_options.parse(line.split()).plan for line in ("--init model", "--init model --preset default", "--seed 1")
    ]
    default = PRESETS["default"].trainer
    assert [plan.trainer for plan in plans] == [train_options.FOR_TRAINED_WEIGHTS, default, default]


@pytest.mark.parametrize(
    ("line", "max_ngram", "dropout"),
    [("", 4, None), ("--tokenizer bpe", 2, 0.5), ("--tokenizer bpe --max-ngram 1", 1, 0.5), ("--max-ngram 3", 3, None)],
)
def test_a_preset_follows_the_tokenizer_and_given_options_prevail(
    line: str, max_ngram: int, dropout: float | None
) -> None:
    model = train_options.parse(line.split()).plan.model
    assert (model["max_ngram"], model.get("ngram_dropout")) == (max_ngram, dropout)


def test_a_download_without_network_is_refused_in_one_sentence(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> Path:
        return shakespeare.download("http://127.0.0.1:9/input.txt", cache=tmp_path / "cache")

    monkeypatch.setattr(train, "download", unreachable)
    assert app(train.main, "train.py --data shakespeare") == 2
    assert "could not be downloaded" in capfd.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("part", ["bigram_loss", "show_sample"])
def test_ctrl_c_after_the_last_step_says_that_the_training_is_complete(
    app: App, text_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def press(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train, part, press)
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1 --out run") == 130
    out, err = capfd.readouterr()
    assert "Interrupted after the last step: the training is complete.\n\nThe run is in run," in out
    assert out.endswith("    uv run apps/sample.py run\n")
    assert "interrupted" not in err


@pytest.mark.usefixtures("quick")
def test_ctrl_c_prints_the_resume_command_before_the_plot_is_drawn(
    app: App, text_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def press(*_: object) -> None:
        said.append(capfd.readouterr().out)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(signals, "_SAME", math.inf)  # two presses count as one, however busy the machine is
    monkeypatch.setattr(MetricsFile, "on_step", press)
    monkeypatch.setattr(LossPlot, "on_end", press)
    assert app(train.main, f"train.py --data {text_file} --preset tiny --out run") == 130
    _, before_the_plot = said
    assert "Stopped after step 1; everything is saved in run" in before_the_plot
    assert "uv run apps/train.py --resume run" in before_the_plot
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_saves_and_resume_continues(text_file: Path) -> None:
    folder = text_file.parent
    command = [sys.executable, str(TRAIN), "--data", str(text_file), "--preset", "tiny", "--out", "run"]
    with subprocess.Popen(
        [*command, "--steps", "100000"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        metrics = folder / "run" / "metrics.jsonl"
        while not metrics.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    text = out.decode()
    assert re.search(r"Stopped after step \d+; everything is saved in run", text)
    assert "uv run apps/train.py --resume run" in text
    assert b"Traceback" not in err

    options = folder / "run" / "run.json"
    stopped = re.search(r"step (\d+)", text)
    assert stopped is not None
    # One more step completes the run.
    last = str(int(stopped.group(1)) + 1)
    resumed = subprocess.run(
        [sys.executable, str(TRAIN), "--resume", "run", "--steps", last], cwd=folder, capture_output=True, check=False
    )
    assert json.loads(options.read_text(encoding="utf-8"))["trainer"]["steps"] == int(last)
    assert resumed.returncode == 0, resumed.stderr.decode()
    assert f"step {last}: validation loss" in resumed.stderr.decode()
