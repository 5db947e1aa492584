"""Fixtures: a text file, a trained run, and a function that runs an app as the shell does."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import console, train
from axone.llm import LossPlot

TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 40

App = Callable[[Callable[[], int], str], int]


@pytest.fixture(autouse=True, scope="session")
def default_sigint_handler() -> None:
    """Handle SIGINT also in a background job of a script, for which the shell ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replace the user's cache by a temporary folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AXONE_CACHE", str(folder))
    return folder


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> App:
    """Return a function that runs an app in an empty folder and returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[], int], line: str) -> int:
        monkeypatch.setattr(sys, "argv", line.split())
        try:
            return console.exit_status(main)
        except SystemExit as stop:  # of argparse, after its message
            return int(stop.code or 0)

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slow parts of a short run: the estimate, the plot and the long sample."""
    monkeypatch.setattr(train, "show_plan", lambda _: None)
    monkeypatch.setattr(LossPlot, "draw", lambda _: None)
    monkeypatch.setattr(train, "SAMPLE_TOKENS", 5)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "hamlet.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    arguments = ["--data", str(folder / "hamlet.txt"), "--preset", "tiny", "--steps", "3", "--out", str(folder / "run")]
    assert train.main(arguments) == 0
    return folder / "run"


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """Return a copy of a trained run in the folder of the test."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))
