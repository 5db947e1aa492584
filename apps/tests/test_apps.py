"""What holds for every app: help at once, a run from training to text, and failures that are a sentence."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import console

import pytest
from matplotlib.figure import Figure

import attention
import neuron
import tokenize_text
from axone.llm import AxoneError

App = Callable[[Callable[[], int], str], int]
FOLDER = Path(console.__file__).parent
APPS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
SLOW = ("matplotlib", "pooch", "requests", "tensorboardX", "tqdm")  # to import; each takes longer than all of ours
HELP = """
import contextlib, importlib, io, sys
sys.path.insert(0, {folder!r})
app = importlib.import_module({app!r})
with contextlib.suppress(SystemExit):
    app.main(["--help"])
print(*(name for name in {slow!r} if name in sys.modules), file=sys.stderr, end="")
"""


def shell(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run an app as the shell does."""
    return subprocess.run(
        [sys.executable, str(FOLDER / command[0]), *command[1:]],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )


def test_all_apps_are_known() -> None:
    assert APPS == ["attention", "neuron", "sample", "tokenize_text", "train"]


@pytest.mark.parametrize("app", APPS)
def test_help_teaches_and_imports_nothing_that_takes_long(app: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HELP.format(folder=str(FOLDER), app=app, slow=SLOW)],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert f"uv run apps/{app}.py" in ended.stdout  # an example to copy
    assert ended.stderr == ""


def test_a_run_of_thirty_steps_and_a_sample_take_less_than_a_minute(tmp_path: Path) -> None:
    """Of the processor's time, since the machine may have other things to do; on two cores it is less by the clock."""
    (tmp_path / "hamlet.txt").write_text("to be, or not to be, that is the question\n" * 80, encoding="utf-8")
    before = os.times()
    trained = shell(tmp_path, "train.py", "--data", "hamlet.txt", "--preset", "tiny", "--steps", "30", "--out", "run")
    assert trained.returncode == 0, trained.stderr
    sampled = shell(tmp_path, "sample.py", "run", "--prompt", "to be", "--max-new-tokens", "100")
    assert (sampled.returncode, sampled.stderr) == (0, "")
    assert sampled.stdout.startswith("to be")
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 60
    drawn = shell(tmp_path, "attention.py", "run")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, f"{Path('run', 'attention.png')}\n", "")


@pytest.mark.parametrize(
    "line",
    [
        "train.py --data missing",
        "sample.py missing",
        "attention.py missing",
        "neuron.py --steps 0",
        "tokenize_text.py show missing x",
    ],
)
def test_a_failure_is_one_sentence_and_no_traceback(tmp_path: Path, line: str) -> None:
    ended = shell(tmp_path, *line.split())
    assert ended.returncode == 2
    assert ended.stdout == ""
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"{line.split(maxsplit=1)[0]}")
    assert "error: " in last
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("app", APPS)
def test_ctrl_c_leaves_no_traceback_while_numpy_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str
) -> None:
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = shell(tmp_path, f"{app}.py", "--help")
    assert ended.returncode in {
        console.INTERRUPTED,
        -signal.SIGINT,
        0xC000013A,
    }  # as the shell, POSIX and Windows say it
    assert (ended.stdout, ended.stderr) == ("", "\ninterrupted\n")


@pytest.mark.parametrize(
    ("main", "line", "file"),
    [
        (neuron.main, "neuron.py --neurons 1 --points 2 --steps 1 --out .", "boundary.png"),
        (attention.main, "attention.py run --out heads.png", "heads.png"),
        (tokenize_text.main, "tokenize_text.py train hamlet.txt --vocab-size 260 --out learned.json", "learned.json"),
    ],
)
@pytest.mark.usefixtures("trained", "text_file")
def test_a_full_disk_names_the_file(
    app: App,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    main: Callable[[], int],
    line: str,
    file: str,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it: of no name

    monkeypatch.setattr(neuron, "GRID", 2)
    monkeypatch.setattr(Figure, "savefig", full)
    monkeypatch.setattr(os, "fsync", full)
    assert app(main, line) == 2
    name = line.split(maxsplit=1)[0]
    assert capfd.readouterr().err.splitlines()[-1] == f"{name}: error: {file}: No space left on device"


@pytest.mark.parametrize("error", sorted(AxoneError.__subclasses__(), key=str))
def test_an_error_of_the_library_is_one_sentence_and_exit_status_2(
    app: App, capfd: pytest.CaptureFixture[str], error: type[AxoneError]
) -> None:
    def main() -> int:
        planted = error.__new__(error)  # whatever its constructor takes
        BaseException.__init__(planted, "the sentence")
        raise planted

    assert app(main, "train.py") == 2
    assert capfd.readouterr().err.startswith("train.py: error: the sentence")
