"""All apps: fast help, a run from training to text, failures in one sentence, and broken output."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from axone.cli import attention, console, neuron, tokenize_text
from axone.cli.invocation import MODULES
from axone.llm import AxoneError, Run

App = Callable[[Callable[[], int], str], int]
FOLDER = Path(__file__).parents[3] / "apps"
APPS = sorted(path.stem for path in FOLDER.glob("*.py"))
SLOW = (
    "matplotlib",
    "pooch",
    "requests",
    "tensorboardX",
    "tqdm",
)  # each takes longer to import than all packages of Axone
HELP = """
import contextlib, runpy, sys
sys.argv = [{path!r}, "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_path({path!r}, run_name="__main__")
print(*(name for name in {slow!r} if name in sys.modules), file=sys.stderr, end="")
"""
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor these redirections")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")


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


def test_each_command_has_a_script() -> None:
    assert sorted(MODULES.values()) == APPS


@pytest.mark.parametrize("app", APPS)
def test_help_shows_an_example_and_imports_nothing_slow(app: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HELP.format(path=str(FOLDER / f"{app}.py"), slow=SLOW)],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert f"uv run apps/{app}.py" in ended.stdout
    assert ended.stderr == ""


def test_a_run_of_thirty_steps_and_a_sample_take_less_than_a_minute(tmp_path: Path) -> None:
    """Measured as processor time, because the machine may be busy; on two cores it is less by the clock."""
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
def test_a_failure_is_one_sentence_without_a_traceback(tmp_path: Path, line: str) -> None:
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
    assert (ended.returncode, ended.stdout, ended.stderr) == (console.INTERRUPTED, "", "\ninterrupted\n")


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
        raise OSError(errno.ENOSPC, "No space left on device")  # a write does not name the file

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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory is exhausted: choose a smaller model, a shorter"),
        (MemoryError(), "memory is exhausted: choose a smaller model, a shorter"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "Resource temporarily unavailable\n"),
        (ChildProcessError("worker process 7 has ended"), "worker process 7 has ended\n"),
    ],
)
def test_an_error_without_a_file_is_not_blamed_on_the_disk(
    app: App, capfd: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    """A fork that was refused was reported as "the disk: Cannot allocate memory"."""

    def main() -> int:
        raise error

    assert app(main, "train.py") == 2
    assert capfd.readouterr().err.startswith(f"train.py: error: {message}")


@posix
@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("<&-", 0, ""),
        ("2>&-", 0, ""),
        (">&-", 2, "sample.py: error: standard output is closed: redirect it, for example to a file\n"),
        (">&- 2>&-", 2, ""),
        ("<&- >&- 2>&-", 2, ""),
        pytest.param(">/dev/full", 2, "sample.py: error: No space left on device\n", marks=linux),
    ],
)
def test_closed_and_full_streams_leave_no_traceback(trained: Path, redirection: str, status: int, message: str) -> None:
    """Closed streams are None in Python: asking whether they are terminals was an AttributeError."""
    line = f"{sys.executable} {FOLDER / 'sample.py'} {trained} --prompt to --max-new-tokens 3 {redirection}"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, check=False, encoding="utf-8")
    assert (ended.returncode, ended.stderr) == (status, message)


@posix
def test_no_file_of_a_run_gets_the_descriptor_of_a_closed_stream(text_file: Path) -> None:
    """The first file that is opened after `2>&-` gets descriptor 2, to which C libraries write their warnings."""
    options = f"--data {text_file} --preset tiny --steps 2 --out run"
    line = f"{sys.executable} {FOLDER / 'train.py'} {options} 2>&- >out"
    ended = subprocess.run(["sh", "-c", line], cwd=text_file.parent, check=False)
    assert ended.returncode == 0
    assert Run(text_file.parent / "run").latest().step == 2


@posix
@pytest.mark.parametrize(
    "redirection",
    [
        "| head -c 10",
        "2>&1 | head -c 10",
        pytest.param("2>/dev/full", marks=linux),
        pytest.param(">/dev/full", marks=linux),
    ],
)
def test_output_that_cannot_be_written_does_not_end_a_training(text_file: Path, redirection: str) -> None:
    """A killed reader of the output ended a training at step 125 of 600, unsaved, with exit status 0."""
    options = f"--data {text_file} --tokenizer bpe --vocab-size 270 --preset tiny --steps 30 --eval-every 5 --out run"
    line = f"{{ {sys.executable} {FOLDER / 'train.py'} {options}; echo $? >status; }} {redirection}"
    ended = subprocess.run(["sh", "-c", line], cwd=text_file.parent, capture_output=True, check=False, encoding="utf-8")
    assert (text_file.parent / "status").read_text(encoding="utf-8") == f"{console.OUTPUT_LOST}\n"
    assert Run(text_file.parent / "run").latest().step == 30
    assert "Traceback" not in ended.stderr
    if redirection in {"| head -c 10", ">/dev/full"}:
        assert ended.stderr.endswith("; the training in run is complete\n")


@posix
def test_a_terminal_that_is_closed_does_not_end_a_training_that_ignores_sighup(text_file: Path) -> None:
    import pty

    main, terminal = pty.openpty()
    options = ["--data", str(text_file), "--preset", "tiny", "--steps", "400", "--eval-every", "50", "--out", "run"]
    with subprocess.Popen(
        [sys.executable, str(FOLDER / "train.py"), *options],
        cwd=text_file.parent,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509 - as nohup does
    ) as process:
        os.close(terminal)
        os.read(main, 1)
        os.close(main)  # each write to the terminal is an OSError from now on
        assert process.wait(timeout=120) == console.OUTPUT_LOST
    assert Run(text_file.parent / "run").latest().step == 400


def test_a_report_stream_discards_text_after_its_first_error(tmp_path: Path) -> None:
    class Full(io.TextIOWrapper):
        written = 0

        def write(self, text: str) -> int:
            self.written += 1
            raise OSError(errno.ENOSPC, f"No space left on device for {text}")

    with (tmp_path / "file").open("wb") as file, Full(file) as full:
        stream = console.ReportStream(full)
        assert print("a", file=stream, end="") is None
        print("b", file=stream, flush=True)
        assert full.written == 1
        assert stream.error is not None
        assert stream.error.strerror == "No space left on device for a"


def test_an_unknown_backend_of_matplotlib_does_not_matter(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MPLBACKEND=bad, matplotlib cannot even be imported: the apps ended with a traceback."""
    monkeypatch.setenv("MPLBACKEND", "bad")
    for line in ("attention.py run", "neuron.py --neurons 1 --points 2 --steps 1"):
        ended = shell(tmp_path, *line.split())
        assert (ended.returncode, ended.stderr) == (0, "")


@posix
def test_a_picture_replaces_a_link_instead_of_its_target(app: App, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my own", encoding="utf-8")
    (trained / "attention.png").symlink_to(tmp_path / "mine.txt")
    assert app(attention.main, "attention.py run") == 0
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "my own"
