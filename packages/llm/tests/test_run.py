"""The run's folder: locks and names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from axone.llm import RunExistsError, unused_run
from axone.llm.run import Run

HOLD = "import sys; from axone.llm.run import Run\nwith Run(sys.argv[1]).lock(): print(flush=True); input()"


def test_a_living_owner_keeps_its_lock_and_a_dead_one_does_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunExistsError, match=f"process {other.pid}"), Run(tmp_path).lock():
            pass
        other.kill()
    assert (tmp_path / "lock").read_text(encoding="utf-8") == str(other.pid)
    with Run(tmp_path).lock():
        assert (tmp_path / "lock").read_text(encoding="utf-8") == str(os.getpid())
        with pytest.raises(RunExistsError, match=f"process {os.getpid()}"), Run(tmp_path).lock():
            pass
    assert not (tmp_path / "lock").exists()


def test_a_run_gets_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert unused_run("python") == Path("runs/python")
    Path("runs/python").mkdir(parents=True)
    assert unused_run("python") == Path("runs/python-2")
