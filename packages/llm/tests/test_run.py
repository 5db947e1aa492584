"""The run's folder: locks and names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from axone.llm import RunExistsError, unused_run
from axone.llm.run import Run


def test_a_living_owner_keeps_its_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / "lock").write_text(str(other.pid), encoding="utf-8")
        with pytest.raises(RunExistsError, match=f"process {other.pid}"), Run(tmp_path).locked():
            pass
        other.communicate(b"\n")
    with Run(tmp_path).locked():
        assert (tmp_path / "lock").read_text(encoding="utf-8") == str(os.getpid())
    assert not (tmp_path / "lock").exists()


def test_a_run_gets_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert unused_run("python") == Path("runs/python")
    Path("runs/python").mkdir(parents=True)
    assert unused_run("python") == Path("runs/python-2")
