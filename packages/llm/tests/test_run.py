"""The run's folder: locks and names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from axone.llm import CheckpointError, Run, RunBusyError, unused_run
from axone.llm.checkpoints.checkpoint import OPTIMIZER, REQUIRED, TRAINER, TrainingState

HOLD = "import sys; from axone.llm.checkpoints.run import Run\nwith Run(sys.argv[1]).lock(): print(flush=True); input()"


def test_a_lock_is_held_until_its_process_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunBusyError, match=f"process {other.pid}"), Run(tmp_path).lock():
            pass
        other.kill()
    assert (tmp_path / "lock").read_text(encoding="utf-8") == str(other.pid)
    with Run(tmp_path).lock():
        assert (tmp_path / "lock").read_text(encoding="utf-8") == str(os.getpid())
        with pytest.raises(RunBusyError, match=f"process {os.getpid()}"), Run(tmp_path).lock():
            pass
    assert not (tmp_path / "lock").exists()


ORPHAN = """
import os, sys, time
from axone.llm.checkpoints.run import Run
with Run(sys.argv[1]).lock():
    if os.fork():
        os._exit(0)  # as if killed, while its worker still shares the lock
    time.sleep(0.5)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked where there is fork")
def test_the_lock_of_a_killed_process_is_awaited_until_its_workers_end(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path)], check=True)
    with Run(tmp_path).lock():
        assert (tmp_path / "lock").read_text(encoding="utf-8") == str(os.getpid())


class Files:
    """Stands for a model."""

    num_bytes = 1

    def write(self, folder: Path) -> None:
        for name in REQUIRED - {TRAINER, OPTIMIZER}:
            (folder / name).write_text("{}", encoding="utf-8")


def saved(folder: Path, losses: dict[int, float | None]) -> list[list[int]]:
    """Save checkpoints with their losses, and return the steps that are kept after each."""
    run, kept = Run(folder), []
    run.checkpoints_path.mkdir(parents=True)
    for step, loss in losses.items():
        run.save(Files(), TrainingState(step=step, validation_loss=loss), {})
        kept.append([checkpoint.step for checkpoint in run.checkpoints()])
    return kept


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    losses = {0: None, 1: 3.0, 2: 1.0, 3: None, 4: 2.0, 5: 1.0, 6: 1.5}
    kept = saved(tmp_path / "run", losses)
    assert kept == [[0], [0, 1], [1, 2], [2, 3], [2, 3, 4], [4, 5], [5, 6]]
    assert Run(tmp_path / "run").best().step == 5
    assert Run(tmp_path / "run").latest().step == 6


def test_without_a_loss_the_newest_is_the_best(tmp_path: Path) -> None:
    assert saved(tmp_path / "run", {1: None, 2: None, 3: None})[-1] == [2, 3]
    assert Run(tmp_path / "run").best().step == 3


def test_a_damaged_best_checkpoint_is_skipped_for_the_next(tmp_path: Path) -> None:
    saved(tmp_path / "run", {1: 1.0, 2: 3.0, 3: 2.0})
    (tmp_path / "run" / "checkpoints" / "step-000001" / "config.json").write_text("[]", encoding="utf-8")
    with pytest.warns(UserWarning, match="skipped a damaged checkpoint: .*step-000001"):
        assert Run(tmp_path / "run").best().step == 3


def damage(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / "checkpoints" / f"step-{step:06d}" / "config.json").unlink()


def test_each_skipped_checkpoint_is_named(tmp_path: Path) -> None:
    saved(tmp_path, {1: 1.0, 2: 3.0, 3: 2.0})
    damage(tmp_path, 2, 3)
    with pytest.warns(UserWarning, match="skipped") as caught:
        assert Run(tmp_path).latest().step == 1
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2
    for step, text in zip((3, 2), texts):
        assert text.endswith(f"{Path(f'step-{step:06d}', 'config.json')}: is missing")


def test_all_damaged_checkpoints_are_named_in_one_sentence(tmp_path: Path) -> None:
    saved(tmp_path, {1: 1.0, 2: 3.0, 3: 2.0})
    damage(tmp_path, 1, 2, 3)
    with pytest.raises(CheckpointError, match="holds no valid checkpoint: ") as caught:  # and no warning
        Run(tmp_path).latest()
    for step, text in zip((3, 2, 1), caught.value.reason.split("; "), strict=True):
        assert text.endswith(f"{Path(f'step-{step:06d}', 'config.json')}: is missing")


def test_a_run_without_a_checkpoint_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint yet: wait for the first, or overwrite the run"):
        Run(tmp_path).best()


def test_a_new_run_gets_an_unused_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert unused_run("python") == Path("runs/python")
    Path("runs/python").mkdir(parents=True)
    assert unused_run("python") == Path("runs/python-2")
