"""A run: the folder that training leaves, and the checkpoints in it.

::

    RUN/run.json                  all options
    RUN/metrics.jsonl             one line for each measurement, if a callback writes it
    RUN/lock                      the process that trains, while it does
    RUN/data/                     the tokens
    RUN/checkpoints/step-000400/  see `checkpoint`

The newest two checkpoints and the best are kept. Whatever moment a process is killed at, the next one finds a whole
checkpoint: the newest folder of that name whose sums are right.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from axone.llm.checkpoints.checkpoint import STEP, Checkpoint, ModelFiles, TrainingState
from axone.llm.errors import CheckpointError, RunExistsError
from axone.llm.storage.atomic import (
    new_folder,
    remove_folder,
    remove_leftovers,
    require_creatable,
    require_folder,
    sync_folder,
)
from axone.llm.storage.json_schema import Document, Format, renamed
from axone.llm.storage.lock import FolderLock, locked
from axone.llm.storage.regular import read_json
from axone.llm.storage.safetensors import State

KEPT = 2
OPTIONS = "run.json"
RENAMED_OPTIONS = {
    "clip": "max_grad_norm",
    "accumulation": "gradient_accumulation_steps",
    "order": "sampling",
    "patience": "early_stopping_patience",
}
"""Fields of `TrainerConfig` in format 0 of ``run.json``, and their names in format 1."""
_REPLACED = ".replaced"  # a checkpoint that waits for its successor of the same step


def _rename_options(document: Document) -> Document:
    """Return ``run.json`` of format 0 with the trainer's options under their names in format 1."""
    trainer = document.get("trainer")
    return {**document, "trainer": renamed(trainer, RENAMED_OPTIONS)} if isinstance(trainer, dict) else document


RUN_FORMAT = Format((_rename_options,))


class Run:
    """A run's folder.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    path, checkpoints_path : Path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints_path = self.path / "checkpoints"

    def check_new(self, *, overwrite: bool = False) -> None:
        """Check that the folder may be made.

        Parameters
        ----------
        overwrite : bool, default False
            Whether a run that is there may be replaced.

        Raises
        ------
        RunExistsError
            If it is there already and not to be overwritten, or is no run.
        OSError
            If it cannot be made.
        """
        if not self.path.exists():
            require_creatable(self.path)
            return
        if not overwrite:
            raise RunExistsError(
                f"the run's folder must be new, and {self.path} exists: resume it, overwrite it, or name another"
            )
        if not self.path.is_dir() or (any(self.path.iterdir()) and not (self.path / OPTIONS).exists()):
            raise RunExistsError(f"only a run can be overwritten, and {self.path} is none: name another folder")

    @contextlib.contextmanager
    def created(self, *, overwrite: bool = False) -> Iterator[Path]:
        """Give out a temporary folder for the run's options and data, and put it in place when the block ends well.

        Parameters
        ----------
        overwrite : bool, default False
            Whether a run that is there may be replaced.

        Yields
        ------
        Path

        Raises
        ------
        RunExistsError
            As `check_new`.
        RunBusyError
            If another process trains in the run that is to be overwritten.
        OSError
            If it cannot be written; nothing is left behind.
        """
        self.check_new(overwrite=overwrite)
        if self.path.exists():
            with self.lock():
                pass  # nobody trains it
        try:
            with new_folder(self.path, parents=True) as folder:
                (folder / self.checkpoints_path.name).mkdir()
                yield folder
                if overwrite and self.path.exists():
                    remove_folder(self.path)
        except FileExistsError:
            raise RunExistsError(f"{self.path} has just been made by another process: name another folder") from None

    def lock(self) -> contextlib.AbstractContextManager[FolderLock]:
        """Return the run's lock, to be held while it is written to.

        Returns
        -------
        context manager

        Raises
        ------
        RunBusyError
            On entering, if another process holds it.
        """
        return locked(self.path / "lock")

    def clean(self) -> None:
        """Remove what processes that were killed have left; to be called with the lock held."""
        for folder in (self.path, self.checkpoints_path):
            if folder.is_dir():
                remove_leftovers(folder)
        for replaced in self._found(replaced=True):
            if self._place(replaced.step).exists():
                remove_folder(replaced.path)
            else:
                replaced.path.rename(self._place(replaced.step))
                sync_folder(self.checkpoints_path)

    def discard_unsaved(self) -> None:
        """Remove the run if it has no checkpoint, so that nothing can go on from it; with the lock held, after an error."""
        if not self.checkpoints():
            with contextlib.suppress(OSError):
                remove_folder(self.path)

    def options(self) -> dict[str, Any]:
        """Read ``run.json``.

        Returns
        -------
        dict
            The trainer's options under ``"trainer"``, the data's places under ``"data"``, and what whoever began the
            run noted besides.

        Raises
        ------
        CheckpointError
            If the folder is no run.
        """
        require_folder(self.path)
        if not (self.path / OPTIONS).exists():
            raise CheckpointError(self.path, f"is no run: it holds no {OPTIONS}")
        return RUN_FORMAT.upgrade(read_json(self.path / OPTIONS), self.path / OPTIONS)

    @property
    def prompt(self) -> str:
        """Prompt of the run's own samples; a line end if none is stored, or the folder does not hold a run."""
        try:
            return str(self.options().get("prompt") or "\n")
        except CheckpointError:
            return "\n"

    def save(self, model: ModelFiles, progress: TrainingState, moments: State) -> Checkpoint:
        """Write a checkpoint, and remove those that are neither new nor the best.

        Parameters
        ----------
        model, progress, moments
            As for `Checkpoint.write`.

        Returns
        -------
        Checkpoint

        Raises
        ------
        OSError
            If it cannot be written: those that are there stay, and nothing else is left behind.
        """
        place = self._place(progress.step)
        if place.exists():  # damaged and made anew, or evaluated after it was saved
            place.rename(place.with_name(f".{place.name}{_REPLACED}"))
            sync_folder(self.checkpoints_path)
        try:
            checkpoint = Checkpoint.write(place, model, progress, moments)
        finally:
            self.clean()
        self._rotate(progress.step)
        return checkpoint

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints, whole or not.

        Returns
        -------
        list of Checkpoint
            Oldest first.
        """
        found = {checkpoint.step: checkpoint for checkpoint in self._found(replaced=True) + self._found()}
        return [found[step] for step in sorted(found)]

    def latest(self) -> Checkpoint:
        """Return the newest checkpoint that is whole; warn of those skipped.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If there is none, naming those that are damaged.
        """
        return self._first_whole(reversed(self.checkpoints()))

    def best(self) -> Checkpoint:
        """Return the whole checkpoint with the lowest validation loss, the newest if none was measured.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If there is none, naming those that are damaged.
        """
        newest_first = reversed(self.checkpoints())
        return self._first_whole(sorted(newest_first, key=_validation_loss))

    def _first_whole(self, checkpoints: Iterable[Checkpoint]) -> Checkpoint:
        damaged: list[str] = []
        for checkpoint in checkpoints:
            try:
                checkpoint.verify()
                if checkpoint.training_state().step != checkpoint.step:
                    raise CheckpointError(checkpoint.path, "is of another step than its name says")  # noqa: TRY301
            except CheckpointError as error:
                damaged.append(str(error))
            else:
                for reason in damaged:
                    warnings.warn(f"skipped a damaged checkpoint: {reason}", stacklevel=3)
                return checkpoint
        if damaged:
            raise CheckpointError(self.path, f"holds no whole checkpoint: {'; '.join(damaged)}")
        raise CheckpointError(self.path, "holds no checkpoint yet: wait for the first, or begin again and overwrite it")

    def _place(self, step: int) -> Path:
        return self.checkpoints_path / f"step-{step:06d}"

    def _found(self, *, replaced: bool = False) -> list[Checkpoint]:
        """Return the checkpoints, or those that wait for their successors."""
        before, after = (r"\.", re.escape(_REPLACED)) if replaced else ("", "")
        name = re.compile(before + STEP.pattern + after)
        paths = self.checkpoints_path.iterdir() if self.checkpoints_path.is_dir() else ()
        return [Checkpoint(path) for path in paths if name.fullmatch(path.name)]

    def _rotate(self, step: int) -> None:
        """Remove checkpoints up to a step that are neither among the newest of them nor the best.

        Later ones can only be damaged: training went on from before them. They wait until it has come that far.
        """
        written = [c for c in self.checkpoints() if c.step <= step]
        keep = [*written[-KEPT:], min(reversed(written), key=_validation_loss)]
        for checkpoint in written:
            if checkpoint not in keep:
                remove_folder(checkpoint.path)


def _validation_loss(checkpoint: Checkpoint) -> float:
    """Return the loss that was measured with a checkpoint, infinite if none was or it cannot be read."""
    with contextlib.suppress(CheckpointError):
        loss = checkpoint.training_state().validation_loss
        if loss is not None:
            return loss
    return float("inf")


def unused_run(name: str) -> Path:
    """Return a path for a new run: ``runs/NAME``, numbered if there is one.

    Parameters
    ----------
    name : str

    Returns
    -------
    Path
        Of a folder that does not exist.
    """
    path = Path("runs") / name
    number = 2
    while path.exists():
        path = Path("runs") / f"{name}-{number}"
        number += 1
    return path
