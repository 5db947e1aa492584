"""The command `axone`: its overview, its commands, and the form of the commands that its texts name."""

import subprocess
import sys
from pathlib import Path

import pytest

from axone.cli import console, main
from axone.cli.invocation import COMMANDS, MODULES, as_called, program

IMPORTED = """
import sys
from axone.cli import main
status = main(["--help"])
print(*(name for name in sys.modules if name.partition(".")[0] in {"numpy", "axone"}), file=sys.stderr)
sys.exit(status)
"""
APPS = Path(__file__).parents[3] / "apps"


def run(folder: Path, *line: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with a command line."""
    return subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )


def test_the_overview_lists_each_command_with_a_line_and_imports_no_layer(tmp_path: Path) -> None:
    ended = run(tmp_path, "-c", IMPORTED)
    assert ended.returncode == 0
    lines = [line.split(maxsplit=1) for line in ended.stdout.splitlines() if line.startswith("  ")]
    assert lines == [[name, summary] for name, summary in COMMANDS.items()]
    assert sorted(ended.stderr.split()) == ["axone", "axone.cli", "axone.cli.console", "axone.cli.invocation"]


@pytest.mark.parametrize("line", [[], ["-h"], ["help"]])
def test_the_overview_is_shown_without_a_command(capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    assert main(line) == console.SUCCESS
    assert capsys.readouterr().out.startswith("usage: axone COMMAND [options]\n")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == console.SUCCESS
    assert capsys.readouterr().out == "axone 0.1.0\n"


@pytest.mark.parametrize(
    ("command", "hint"),
    [("trian", "did you mean train?"), ("tokenise", "did you mean tokenize?"), ("--data", "axone --help lists them")],
)
def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str], command: str, hint: str) -> None:
    assert main([command]) == console.USER_ERROR
    assert capsys.readouterr().err == f"axone: error: {command!r} is not a command: {hint}\n"


def test_a_command_begins_its_errors_with_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sys.argv
    assert main(["sample", str(tmp_path / "missing")]) == console.USER_ERROR
    assert capsys.readouterr().err.startswith("axone sample: error: ")
    assert sys.argv is before


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_that_of_its_script(command: str, tmp_path: Path) -> None:
    script = MODULES[command]
    of_script = run(tmp_path, str(APPS / f"{script}.py"), "--help").stdout
    of_command = run(tmp_path, "-m", "axone.cli", command, "--help").stdout
    assert f"python -m axone.cli {command} " in of_command

    def words(text: str, call: str) -> list[str]:
        return text.replace(call, "axone").split()  # the width of the call moves line ends

    scripts = of_script
    for name, module in MODULES.items():
        scripts = scripts.replace(f"uv run apps/{module}.py", f"axone {name}")
    assert words(scripts, "axone") == words(of_command, "python -m axone.cli")


@pytest.mark.parametrize(
    ("first", "sample", "tokenize", "prefix"),
    [
        ("axone train", "axone sample", "axone tokenize", "axone train"),
        ("python -m axone.cli train", "python -m axone.cli sample", "python -m axone.cli tokenize", None),
        ("apps/train.py", "uv run apps/sample.py", "uv run apps/tokenize_text.py", "train.py"),
        ("/usr/bin/pytest", "axone sample", "axone tokenize", "pytest"),
    ],
)
def test_commands_in_a_text_have_the_form_of_the_call(
    monkeypatch: pytest.MonkeyPatch, first: str, sample: str, tokenize: str, prefix: str | None
) -> None:
    monkeypatch.setattr(sys, "argv", [first])
    text = "axone sample runs/axone, axone tokenize show, axone 0.1"
    assert as_called(text) == f"{sample} runs/axone, {tokenize} show, axone 0.1"
    assert program() == (first if prefix is None else prefix)


def test_a_training_names_the_commands_as_the_user_called_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("to be, or not to be, that is the question\n" * 80, encoding="utf-8")
    options = ("--data", "notes.txt", "--preset", "tiny", "--steps", "2", "--out", "run")
    ended = run(tmp_path, "-m", "axone.cli", "train", *options)
    assert ended.returncode == 0, ended.stderr
    assert "\n    python -m axone.cli sample run\n" in ended.stdout
