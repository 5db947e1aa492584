"""A text file, a trained run, and a way to run an app as the shell would."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import console
import train

TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 40

App = Callable[[Callable[[], int], str], int]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> App:
    """Run an app's main in an empty folder, with a command line, and return its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[], int], line: str) -> int:
        monkeypatch.setattr(sys, "argv", line.split())
        try:
            return console.run(main)
        except SystemExit as stop:  # argparse has said what is wrong
            return int(stop.code or 0)

    return run


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
    """Return a trained run of the test's own, in its folder."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))
