"""Options from a TOML file, `axone train --config FILE`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import train, train_options

App = Callable[[Callable[[], int], str], int]
OPTIONS = """
data = "hamlet.txt"
preset = "tiny"
steps = 7
learning_rate = 0.5
qk-norm = true
tensorboard = false
out = "from the file"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "options.toml"
    path.write_text(OPTIONS, encoding="utf-8")
    return path


def test_a_file_holds_options(file: Path) -> None:
    options = train_options.parse(["--config", str(file)])
    assert (options.data, options.preset_name, options.out) == ("hamlet.txt", "tiny", Path("from the file"))
    assert (options.training["steps"], options.training["learning_rate"]) == (7, 0.5)
    assert options.plan.model["qk_norm"] is True
    assert not options.tensorboard


def test_options_of_the_command_line_prevail(file: Path) -> None:
    options = train_options.parse(["--steps", "9", "--config", str(file), "--preset=default"])
    assert (options.training["steps"], options.preset_name, options.data) == (9, "default", "hamlet.txt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("stesp = 3", "options.toml: stesp is not an option: did you mean steps?"),
        ("steps 3", "options.toml is not valid TOML: "),
        ("steps = 3.5", "argument --steps: invalid int value: '3.5'"),
        ("steps = true", "options.toml: steps (True) must be a number or a text"),
        ("qk-norm = 1", "options.toml: qk-norm (1) must be true or false"),
        ("steps = [1]", "options.toml: steps must be a number, a text, true or false"),
        (
            "[model]\nnum-layers = 1",
            "options.toml: the table model must be left out: write its options without a table",
        ),
        ('resume = "run"', "options.toml: resume must be given on the command line: remove it from the file"),
        ('config = "x"', "options.toml: config must be given on the command line"),
        ("help = true", "options.toml: help must be given on the command line"),
        ("vocab-size = 300", "--vocab-size requires --tokenizer bpe"),
        ("caf\xe9 = 1".encode("latin-1"), "options.toml is not valid UTF-8 (first bad byte at 3): convert it first"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(
    app: App, file: Path, capfd: pytest.CaptureFixture[str], content: str | bytes, reason: str
) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert app(train.main, "train.py --config options.toml") == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: error: ")
    assert reason in last


def test_a_missing_file_and_a_resumed_run_are_refused(app: App, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(train.main, "train.py --config missing.toml") == 2
    assert capfd.readouterr().err == "train.py: error: missing.toml: No such file or directory\n"
    assert app(train.main, f"train.py --resume run --config {file}") == 2
    assert "--resume reads all options but --steps from the run" in capfd.readouterr().err.splitlines()[-1]
