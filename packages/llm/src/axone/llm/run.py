"""A run: the folder that training leaves, and the checkpoints in it.

::

    RUN/run.json                  all options
    RUN/metrics.jsonl             one line for each measurement, if a callback writes it
    RUN/checkpoints/step-000400/  a model folder, with what is needed to resume and a manifest of SHA-256 sums

A checkpoint is written as a temporary folder and renamed, so that a folder of that name is always whole. The newest
two and the best are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from axone.llm.errors import CheckpointError, RunExistsError
from axone.llm.files import new_folder, read_json, sync_folder, write_json
from axone.llm.model import LanguageModel
from axone.llm.weights import State, read_arrays, write_arrays
from axone.tokenizer import Tokenizer
from axone.tokenizer import load as load_tokenizer

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
KEPT = 2


class Checkpoint:
    """One complete checkpoint.

    Parameters
    ----------
    path : Path
        Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def step(self) -> int:
        """How many steps had been made."""
        return int(self.path.name.removeprefix("step-"))

    def verify(self) -> None:
        """Check every file against the manifest; a folder without one, from elsewhere, passes.

        Raises
        ------
        CheckpointError
            If a file is missing or changed.
        """
        if not (self.path / MANIFEST).exists():
            return
        sums = read_json(self.path / MANIFEST).get("sha256")
        if not isinstance(sums, dict):
            raise CheckpointError(self.path / MANIFEST, "must hold the files' sums under sha256")
        for name, expected in sums.items():
            try:
                actual = _sha256(self.path / name)
            except OSError as error:
                raise CheckpointError(self.path / name, f"cannot be read ({error.strerror})") from error
            if actual != expected:
                raise CheckpointError(self.path / name, "is damaged: its SHA-256 sum is not the manifest's")

    def training_state(self) -> tuple[dict[str, Any], State]:
        """Return the trainer's numbers and the optimizer's arrays."""
        return read_json(self.path / "trainer.json"), read_arrays(self.path / "trainer.safetensors")

    def validation_loss(self) -> float:
        """Return the loss that was measured with it, infinite if none was."""
        with contextlib.suppress(CheckpointError):
            loss = read_json(self.path / "trainer.json").get("validation_loss")
            if isinstance(loss, (int, float)):
                return float(loss)
        return float("inf")


class Run:
    """A run's folder.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints_path = self.path / "checkpoints"

    def check_new(self, *, overwrite: bool = False) -> None:
        """Check that the folder may be made.

        Raises
        ------
        RunExistsError
            If it is there already and not to be overwritten, or is no run.
        """
        if not self.path.exists():
            return
        if not overwrite:
            raise RunExistsError(
                f"the run's folder must be new, and {self.path} exists: resume it, overwrite it, or name another"
            )
        if not self.path.is_dir() or (any(self.path.iterdir()) and not (self.path / "run.json").exists()):
            raise RunExistsError(f"only a run can be overwritten, and {self.path} is none: name another folder")

    def create(self, *, overwrite: bool = False) -> None:
        """Make the folder, removing one that is there if it may be overwritten.

        Raises
        ------
        RunExistsError
            As `check_new`.
        """
        self.check_new(overwrite=overwrite)
        if self.path.exists():
            shutil.rmtree(self.path)
        self.checkpoints_path.mkdir(parents=True)

    def write_options(self, options: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        write_json(self.path / "run.json", dict(options))

    def options(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises
        ------
        CheckpointError
            If the folder is no run.
        """
        return read_json(self.path / "run.json")

    def save(
        self, step: int, model: LanguageModel, tokenizer: Tokenizer, numbers: Mapping[str, Any], arrays: State
    ) -> Checkpoint:
        """Write a checkpoint, and remove those that are neither new nor the best."""
        path = self.checkpoints_path / f"step-{step:06d}"
        if path.exists():  # resumed and stopped again without a step
            shutil.rmtree(path)
        with new_folder(path) as folder:
            model.save_pretrained(folder)
            tokenizer.save(folder / TOKENIZER)
            write_arrays(folder / "trainer.safetensors", arrays)
            write_json(folder / "trainer.json", dict(numbers))
            names = sorted(file.name for file in folder.iterdir())
            write_json(folder / MANIFEST, {"sha256": {name: _sha256(folder / name) for name in names}})
        self._rotate()
        return Checkpoint(path)

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints, oldest first."""
        if not self.checkpoints_path.is_dir():
            return []
        found = [Checkpoint(p) for p in self.checkpoints_path.iterdir() if p.name.startswith("step-")]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def latest(self) -> Checkpoint:
        """Return the newest checkpoint that is whole; warn of those skipped.

        Raises
        ------
        CheckpointError
            If there is none.
        """
        return self._first_whole(reversed(self.checkpoints()))

    def best(self) -> Checkpoint:
        """Return the whole checkpoint with the lowest validation loss, the newest if none was measured."""
        newest_first = list(reversed(self.checkpoints()))
        return self._first_whole(sorted(newest_first, key=Checkpoint.validation_loss))

    def _first_whole(self, checkpoints: Any) -> Checkpoint:
        for checkpoint in checkpoints:
            try:
                checkpoint.verify()
            except CheckpointError as error:
                warnings.warn(f"skipped a damaged checkpoint: {error}", stacklevel=3)
            else:
                return checkpoint  # type: ignore[no-any-return]  # a Checkpoint
        raise CheckpointError(self.path, "holds no whole checkpoint")

    def _rotate(self) -> None:
        every = self.checkpoints()
        keep = {c.step for c in every[-KEPT:]} | {min(reversed(every), key=Checkpoint.validation_loss).step}
        for checkpoint in every:
            if checkpoint.step not in keep:
                # Renamed first: a folder that is half removed must not carry a checkpoint's name.
                doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.old")
                checkpoint.path.rename(doomed)
                sync_folder(self.checkpoints_path)
                shutil.rmtree(doomed)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, so that no second process writes to it.

        Raises
        ------
        RunExistsError
            If a living process holds it.
        """
        lock = self.path / "lock"
        for _ in range(2):
            try:
                descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                owner = _owner(lock)
                if owner is not None:
                    raise RunExistsError(f"{self.path} is being trained by process {owner}: wait or stop it") from None
                lock.unlink(missing_ok=True)  # its process is gone
            else:
                break
        else:
            raise RunExistsError(f"{lock} cannot be taken: another process is faster")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def unused_run(name: str) -> Path:
    """Return a new folder's path for a run: ``runs/NAME``, numbered if there is one."""
    path = Path("runs") / name
    number = 2
    while path.exists():
        path = Path("runs") / f"{name}-{number}"
        number += 1
    return path


def load(folder: str | os.PathLike[str]) -> tuple[LanguageModel, Tokenizer]:
    """Return the model and the tokenizer of a run (its best checkpoint) or of one model folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer

    Raises
    ------
    CheckpointError
        If the folder is neither, or damaged.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CheckpointError(path, "is not a folder: name a run, or a checkpoint in it")
    if (path / "checkpoints").is_dir():
        checkpoint = Run(path).best()
    elif (path / "config.json").exists():
        checkpoint = Checkpoint(path)
        checkpoint.verify()
    else:
        raise CheckpointError(path, "is no model: it holds neither checkpoints nor a config.json")
    return LanguageModel.from_pretrained(checkpoint.path), checkpoint_tokenizer(checkpoint)


def checkpoint_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the tokenizer of a checkpoint."""
    try:
        return load_tokenizer(checkpoint.path / TOKENIZER)
    except (OSError, ValueError) as error:
        raise CheckpointError(checkpoint.path / TOKENIZER, f"cannot be used ({error})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _owner(lock: Path) -> int | None:
    """Return the process that holds a lock, or None if it is gone."""
    try:
        pid = int(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if pid == os.getpid():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it lives and belongs to somebody else
        return pid
    return pid
