"""Durability: crash points, order of system calls, file modes, full disks and refused writes."""

import contextlib
import errno
import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from disk_shim import DiskCall, DiskShim

from axone.llm import Callback, LanguageModel, MetricsFile, StepEvent, Trainer, load
from axone.llm.checkpoints.checkpoint import MANIFEST, TRAINER, Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.quantization import WeightFormat
from axone.llm.storage.atomic import leftovers, write_file

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork, and no modes of files")

STEPS = 4


class Stop(Callback):
    """Interrupts a training after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, event: StepEvent) -> None:
        if event.step == self._step:
            os.kill(os.getpid(), signal.SIGINT)


def script(name: str, *arguments: str) -> str:
    """Run one of the scripts under reliability/ and return what it printed."""
    memory = Path("/dev/shm")  # noqa: S108 - a disk that does not make one wait, where there is one
    environment = {**os.environ, "TMPDIR": str(memory)} if memory.is_dir() else None
    command = [sys.executable, str(Path(tiny.__file__).with_name(name)), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that lacks one step, which will remove a checkpoint."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    assert tiny.trainer(run, STEPS, [Stop(STEPS - 1)]).fit().step == STEPS - 1
    return run


@pytest.fixture(scope="module")
def sums(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Return the sums of the last two checkpoints of the uninterrupted run."""
    run = Path(shutil.copytree(stopped, tmp_path_factory.mktemp("whole") / "run"))
    Trainer.resume(run).fit()
    return {checkpoint.step: manifest(checkpoint) for checkpoint in Run(run).checkpoints()[-2:]}


def manifest(checkpoint: Checkpoint) -> bytes:
    """Return the sums of all files, after the training state, whose difference is legible in a failure."""
    return (checkpoint.path / TRAINER).read_bytes() + (checkpoint.path / MANIFEST).read_bytes()


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@posix
def test_a_process_that_dies_at_any_call_loses_nothing() -> None:
    printed = script("crash_points.py", "--last")
    assert re.search(r" (\d+)  resumed, same weights\n +\1  crash points", printed)


@posix
def test_a_process_that_is_killed_at_any_moment_loses_nothing() -> None:
    assert re.search(r"20  kills, at most [01] steps lost", script("kills.py", "--kills", "20"))


@posix
def test_runs_at_once_in_one_folder_do_not_disturb_each_other() -> None:
    printed = script("sweep.py", "--rounds", "2")
    assert re.search(r"10  runs: valid\n +2  rounds", printed)


@pytest.mark.parametrize(("when", "goes_on"), [("before", False), ("after", False), ("before", True)])
def test_an_error_at_any_call_leaves_a_checkpoint_and_nothing_else(
    stopped: Path, tmp_path: Path, sums: dict[int, bytes], when: str, goes_on: bool
) -> None:
    failed = False
    number, made = -1, [0, 0]
    while failed or number < 0:
        number, failed = number + 1, False
        run = Path(shutil.copytree(stopped, tmp_path / f"run-{number}"))
        trainer = Trainer.resume(run)

        def fail(call: DiskCall, number: int = number) -> None:
            nonlocal failed
            if call.number == number or (goes_on and call.number > number and call.name not in {"unlink", "rmdir"}):
                failed = True
                raise OSError(errno.EIO, "broken")

        shim = DiskShim(run, before=fail) if when == "before" else DiskShim(run, after=fail)
        with shim, contextlib.suppress(OSError):
            trainer.fit()
        latest = Run(run).latest()
        assert manifest(latest) == sums[latest.step]
        with Run(run).lock():
            Run(run).clean()
        assert not leftovers(run / "checkpoints")
        assert Run(run).latest().step == latest.step
        made[latest.step - STEPS + 1] += 1
        shutil.rmtree(run)
    assert min(made) > 5


def test_a_checkpoint_is_written_synced_renamed_and_synced(run: Path) -> None:
    synced: dict[str, int] = {}

    def measure(call: DiskCall) -> None:
        if call.name == "fsync":
            synced[Path(call.path).name] = Path(call.path).stat().st_size

    with DiskShim(run, before=measure) as shim:
        Trainer.resume(run).fit()
    checkpoints = run.resolve() / "checkpoints"
    calls = [(call.name, re.sub(r"\.\d+\.[0-9a-f]{8}\.tmp", ".tmp", call.path)) for call in shim.calls]
    made = calls[calls.index(("mkdir", f"{checkpoints}/.step-000004.tmp")) :]
    renamed = made.index(("rename", f"{checkpoints}/.step-000004.tmp"))
    assert made[renamed - 1] == ("fsync", f"{checkpoints}/.step-000004.tmp")
    assert made[renamed + 1] == ("fsync", str(checkpoints))
    names = (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "trainer.safetensors",
        "trainer.json",
        "manifest.json",
    )
    for name in names:
        temporary = f"{checkpoints}/.step-000004.tmp/.{name}"
        ours = [call for call, path in made[:renamed] if path.startswith(temporary)]
        assert [call for call, _ in itertools.groupby(ours)][-2:] == ["fsync", "replace"], name
        if name != "tokenizer.json":  # written by another package, under a name of its own
            sizes = [size for path, size in synced.items() if path.startswith(f".{name}.{os.getpid()}.")]
            assert sizes[-1:] == [(checkpoints / "step-000004" / name).stat().st_size]


@posix
def test_modes_are_what_the_umask_leaves(tmp_path: Path, run: Path) -> None:
    before = os.umask(0o027)
    try:
        Trainer.resume(run).fit()
    finally:
        os.umask(before)
    checkpoint = run / "checkpoints" / f"step-{STEPS:06d}"
    assert stat.S_IMODE(checkpoint.stat().st_mode) == 0o750
    assert {stat.S_IMODE(file.stat().st_mode) for file in checkpoint.iterdir()} == {0o640}


@pytest.mark.parametrize(
    ("kind", "call"), [(errno.ENOSPC, "write"), (errno.ENOSPC, "fsync"), (errno.EACCES, "open"), (errno.EROFS, "mkdir")]
)
def test_a_refused_write_gives_one_sentence_and_loses_no_checkpoint(run: Path, kind: int, call: str) -> None:
    trainer = Trainer.resume(run)

    def refuse(event: DiskCall) -> None:
        if event.name == call and "step-000004" in event.path:
            raise OSError(kind, os.strerror(kind))

    before = {path.name for path in (run / "checkpoints").iterdir()}
    with DiskShim(run, before=refuse), pytest.raises(OSError, match=os.strerror(kind)) as caught:
        trainer.fit()
    assert caught.value.errno == kind
    assert caught.value.filename == str(run / "checkpoints" / "step-000004")
    assert re.fullmatch(
        f"{os.strerror(kind)}, and a checkpoint takes about [1-9][0-9],[0-9]{{3}} bytes", str(caught.value.strerror)
    )
    assert {path.name for path in (run / "checkpoints").iterdir()} == before
    assert Run(run).latest().step == STEPS - 1
    assert not (run / "lock").exists()


def test_a_run_that_cannot_be_created_leaves_nothing(tmp_path: Path) -> None:
    def refuse(event: DiskCall) -> None:
        if event.name == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    with DiskShim(tmp_path, before=refuse), pytest.raises(OSError, match="No space left") as caught:
        tiny.trainer(tmp_path / "run", STEPS).fit()
    assert caught.value.filename == str(tmp_path / "run" / "data" / "train.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_folder_cannot_be_made_is_refused_before_training(tmp_path: Path) -> None:
    def refuse(event: DiskCall) -> None:
        if event.name == "mkdir":
            raise OSError(errno.EROFS, "Read-only file system", event.path)

    (tmp_path / "file").touch()
    run = tmp_path / "missing" / "run"
    with DiskShim(tmp_path, before=refuse), pytest.raises(OSError, match=r"cannot be made \(Read-only") as caught:
        Run(run).check_new()
    assert caught.value.filename == str(run)
    with pytest.raises(OSError, match="cannot be made") as caught:
        Run(tmp_path / "file" / "run").check_new()
    assert caught.value.filename == str(tmp_path / "file" / "run")
    Run(run).check_new()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["write", "mkdir"])
def test_a_run_whose_first_checkpoint_cannot_be_written_leaves_nothing(tmp_path: Path, call: str) -> None:
    def refuse(event: DiskCall) -> None:
        if event.name == call and "step-000000" in event.path:
            raise OSError(errno.ENOSPC, "No space left on device")

    callbacks = [MetricsFile(tmp_path / "run" / "metrics.jsonl")]
    with DiskShim(tmp_path, before=refuse), pytest.raises(OSError, match=r"No space left.*a checkpoint takes about"):
        tiny.trainer(tmp_path / "run", STEPS, callbacks).fit()
    assert list(tmp_path.iterdir()) == []
    assert tiny.trainer(tmp_path / "run", STEPS, callbacks).fit().outcome == "finished"


def test_a_file_keeps_its_content_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")

    def refuse(event: DiskCall) -> None:
        if event.name == "replace":
            raise OSError(errno.EIO, "broken")

    with DiskShim(tmp_path, before=refuse), pytest.raises(OSError, match="broken, and 3 bytes are needed"):
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_saving_a_model_elsewhere_is_durable_too(tmp_path: Path, model: LanguageModel) -> None:
    model.save_pretrained(tmp_path / "model")
    with DiskShim(tmp_path) as shim:
        model.save_pretrained(tmp_path / "model")
    assert [name for name, _ in itertools.groupby(call.name for call in shim.calls)] == [
        "mkdir", "open", "write", "fsync", "replace", "fsync", "open", "write", "fsync", "replace", "fsync",
    ]  # fmt: skip
    loaded = LanguageModel.from_pretrained(tmp_path / "model")
    assert tiny.weights_sum(loaded) == tiny.weights_sum(model)


def test_a_checkpoint_that_is_removed_while_it_is_loaded_is_skipped(run: Path) -> None:
    """The trainer removes a checkpoint after `load` has chosen it."""
    doomed = Run(run).best().path
    calls = 0
    original = LanguageModel.from_pretrained

    def slow(folder: Path, *, weights: WeightFormat) -> LanguageModel:
        nonlocal calls
        calls += 1
        if calls == 1:
            shutil.rmtree(doomed)
        return original(folder, weights=weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModel, "from_pretrained", slow)
        load(run)
    assert calls == 2
