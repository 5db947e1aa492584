"""Runs: the folder of a training, and the checkpoints in it.

::

    RUN/run.json                  all options, and the run's identity
    RUN/metrics.jsonl             one line per measurement, if a callback writes it
    RUN/lock                      id of the process that trains, while it does
    RUN/data/                     the tokens
    RUN/checkpoints/step-000400/  see `checkpoint`

The newest two checkpoints and the best are kept. Whatever moment a process is killed at, the next one finds a valid
checkpoint: the newest folder of that name whose sums are right.

A run has an identity, and training holds a lock on its folder: a folder that was removed or replaced meanwhile is noticed
and not written to. A symbolic link that leaves the run is refused, because training would write through it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from axone.llm.checkpoints.checkpoint import STEP, Checkpoint, ModelFiles, TrainingState
from axone.llm.checkpoints.run_format import IDENTITY, OPTIONS, RUN_FORMAT
from axone.llm.errors import CheckpointError, RunBusyError, RunExistsError, warn_caller
from axone.llm.storage.atomic import (
    new_folder,
    remove_folder,
    remove_leftovers,
    require_creatable,
    require_folder,
    sync_folder,
    write_json,
)
from axone.llm.storage.json_schema import FORMAT
from axone.llm.storage.lock import FolderLock, locked
from axone.llm.storage.regular import read_json
from axone.llm.storage.safetensors import WritableState

KEPT = 2
LOCK = "lock"
_RESERVED = {FORMAT, IDENTITY}
_REPLACED = ".replaced"  # suffix of a checkpoint until its successor of the same step is written


class Run:
    """Folder of a run.

    Parameters
    ----------
    path : path
        Made absolute at once, so that a later change of the working directory does not split the run; a link is resolved.

    Attributes
    ----------
    path, checkpoints_path : Path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        if self.path.is_symlink():
            self.path = Path(os.path.realpath(self.path))
        self.checkpoints_path = self.path / "checkpoints"
        self._identity: str | None = None
        self._lock: FolderLock | None = None
        self._status: os.stat_result | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def check_new(self, *, overwrite: bool = False) -> None:
        """Check that the folder may be made.

        Parameters
        ----------
        overwrite : bool, default False
            Whether a run that is there may be replaced.

        Raises
        ------
        RunExistsError
            If it exists and must not be overwritten, or is not a run.
        OSError
            If it cannot be made.
        """
        if not self.path.exists():
            require_creatable(self.path)
            return
        if not overwrite:
            raise RunExistsError(f"{self.path} exists already: resume it, overwrite it, or name another folder")
        with contextlib.suppress(FileNotFoundError):  # another process is replacing it
            if not self.path.is_dir() or (any(self.path.iterdir()) and not (self.path / OPTIONS).exists()):
                raise RunExistsError(
                    f"{self.path} is not a run, and only a run can be overwritten: name another folder"
                )

    @contextlib.contextmanager
    def created(self, *, overwrite: bool = False) -> Iterator[Path]:
        """Make a temporary folder for the run's options and data, and rename it when the block ends without an error.

        A run that is overwritten stays locked until it is replaced.

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
            As `check_new`, or if another process has just made the folder.
        RunBusyError
            If the run to be overwritten is being trained.
        OSError
            If it cannot be written; nothing is left behind.
        """
        self.check_new(overwrite=overwrite)
        with contextlib.ExitStack() as held:
            try:
                if overwrite and self.path.exists():  # otherwise the lock is that of a run just made
                    held.enter_context(locked(self.path / LOCK))
            except FileNotFoundError:
                raise RunBusyError(
                    f"{self.path} is being replaced by another process: wait for it or stop it"
                ) from None
            try:
                with new_folder(self.path, parents=True, overwrite=overwrite) as folder:
                    (folder / self.checkpoints_path.name).mkdir()
                    yield folder
                    if os.name == "nt":  # Windows renames no folder with an open file
                        held.close()
            except FileExistsError:
                raise RunExistsError(
                    f"{self.path} has just been made by another process: resume it, or name another folder"
                ) from None

    def write_options(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Write ``run.json`` of a new run, with a new identity, into the folder that `created` yields.

        Raises
        ------
        ValueError
            If an option has a reserved name.
        OSError
            If it cannot be written.
        """
        reserved = sorted(_RESERVED & set(options))
        if reserved:
            raise ValueError(f"notes must not have the reserved names {', '.join(reserved)}")
        self._identity = os.urandom(16).hex()
        write_json(folder / OPTIONS, RUN_FORMAT.stamp({IDENTITY: self._identity, **options}))

    def replace_options(self, options: Mapping[str, Any]) -> None:
        """Replace the options in ``run.json`` and keep the run's identity; the caller must hold the lock.

        Raises
        ------
        OSError
            If it cannot be written; the old options stay.
        """
        write_json(self.path / OPTIONS, RUN_FORMAT.stamp({IDENTITY: self._identity, **options}))

    def options(self) -> dict[str, Any]:
        """Read ``run.json``.

        Returns
        -------
        dict
            The trainer's options under ``"trainer"``, dataset references under ``"data"``, and the notes of the caller
            that began the run.

        Raises
        ------
        CheckpointError
            If the folder is not a run.
        """
        options = self._read_options()
        self._identity = options.pop(IDENTITY, None)
        return options

    def _read_options(self) -> dict[str, Any]:
        require_folder(self.path)
        if not os.path.lexists(self.path / OPTIONS):
            raise CheckpointError(self.path, f"is not a run: it holds no {OPTIONS}")
        return RUN_FORMAT.upgrade(read_json(self.path / OPTIONS), self.path / OPTIONS)

    @property
    def prompt(self) -> str:
        """Prompt of the run's own samples; a line end if none is stored, or the folder does not hold a run."""
        try:
            return str(self.options().get("prompt") or "\n")
        except CheckpointError:
            return "\n"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's lock while it is written to.

        Raises
        ------
        RunBusyError
            If another process holds it, or the folder is another run than the one that was created or opened.
        CheckpointError
            If the folder is missing, has a symbolic link that leaves it, or a file that is not regular.
        """
        require_folder(self.path)
        with locked(self.path / LOCK) as lock:
            if self._identity is not None and self._read_options().get(IDENTITY) != self._identity:
                raise RunBusyError(f"{self.path} was replaced by another run: resume that one, or name another folder")
            self._require_own_files()
            self._lock, self._status = lock, self.path.stat()
            try:
                yield
            finally:
                self._lock = None

    def _require_own_files(self) -> None:
        """Check that no symbolic link leaves the folder, and that its files are regular.

        Training and its callbacks would write through a link, and wait for ever to read a FIFO.
        """
        root = os.path.realpath(self.path)
        for folder, folders, files in os.walk(self.path):
            for path in (Path(folder, name) for name in folders + files):
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode) and not Path(os.path.realpath(path)).is_relative_to(root):
                    raise CheckpointError(path, "is a symbolic link that leaves the run: replace it by a copy")
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                    raise CheckpointError(path, "is neither a regular file nor a folder: remove it")

    def _is_replaced(self) -> bool:
        """Return whether the folder was removed or replaced since it was locked.

        A user may remove the lock file alone: then the folder and its identity are still the same.
        """
        if self._lock is None or self._lock.is_held():
            return False
        with contextlib.suppress(OSError, CheckpointError):
            same = self._status is not None and os.path.samestat(self.path.stat(), self._status)
            if same and not os.path.lexists(self.path / LOCK):
                return self._identity is not None and self._read_options().get(IDENTITY) != self._identity
        return True

    def clean(self) -> None:
        """Remove what killed processes have left; the caller must hold the lock."""
        for folder in (self.path, self.checkpoints_path):
            if folder.is_dir():
                remove_leftovers(folder)
        for replaced in self._found(replaced=True):
            if self._checkpoint_path(replaced.step).exists():
                remove_folder(replaced.path)
            else:
                replaced.path.rename(self._checkpoint_path(replaced.step))
                sync_folder(self.checkpoints_path)

    def discard_unsaved(self) -> None:
        """Remove the run if it has no checkpoint, because nothing can continue from it; the caller must hold the lock."""
        if not self._is_replaced() and not self.checkpoints():
            with contextlib.suppress(OSError):
                remove_folder(self.path)

    def save(self, model: ModelFiles, state: TrainingState, optimizer_state: WritableState) -> Checkpoint:
        """Write a checkpoint, and remove those that are neither new nor the best.

        Parameters
        ----------
        model, state, optimizer_state
            As for `Checkpoint.write`.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If the folder was removed or replaced since it was locked; nothing is written then.
        OSError
            If it cannot be written: other checkpoints stay, and nothing is left behind.
        """
        if self._is_replaced():
            raise CheckpointError(self.path, "was removed or replaced while it was trained: nothing is saved there")
        self.checkpoints_path.mkdir(exist_ok=True)  # a user may have removed it
        path = self._checkpoint_path(state.step)
        if path.exists():  # damaged and made again, or evaluated after it was saved
            path.rename(path.with_name(f".{path.name}{_REPLACED}"))
            sync_folder(self.checkpoints_path)
        try:
            checkpoint = Checkpoint.write(path, model, state, optimizer_state)
        finally:
            self.clean()
        self._rotate(state.step)
        return checkpoint

    def checkpoints(self) -> list[Checkpoint]:
        """Return all checkpoints, valid or not.

        Returns
        -------
        list of Checkpoint
            Oldest first.
        """
        found = {checkpoint.step: checkpoint for checkpoint in self._found(replaced=True) + self._found()}
        return [found[step] for step in sorted(found)]

    def latest(self) -> Checkpoint:
        """Return the newest valid checkpoint, and warn of those that were skipped.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If there is none, naming those that are damaged.
        """
        return self._first_valid(reversed(self.checkpoints()))

    def best(self) -> Checkpoint:
        """Return the valid checkpoint with the lowest validation loss, the newest if none was evaluated.

        Returns
        -------
        Checkpoint

        Raises
        ------
        CheckpointError
            If there is none, naming those that are damaged.
        """
        newest_first = reversed(self.checkpoints())
        return self._first_valid(sorted(newest_first, key=_validation_loss))

    def _first_valid(self, checkpoints: Iterable[Checkpoint]) -> Checkpoint:
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
                    warn_caller(f"skipped a damaged checkpoint: {reason}")
                return checkpoint
        if damaged:
            raise CheckpointError(self.path, f"holds no valid checkpoint: {'; '.join(damaged)}")
        raise CheckpointError(self.path, "holds no checkpoint yet: wait for the first, or overwrite the run")

    def _checkpoint_path(self, step: int) -> Path:
        return self.checkpoints_path / f"step-{step:06d}"

    def _found(self, *, replaced: bool = False) -> list[Checkpoint]:
        """Return the checkpoints, or those that are being replaced."""
        before, after = (r"\.", re.escape(_REPLACED)) if replaced else ("", "")
        name = re.compile(before + STEP.pattern + after)
        paths = self.checkpoints_path.iterdir() if self.checkpoints_path.is_dir() else ()
        return [Checkpoint(path) for path in paths if name.fullmatch(path.name)]

    def _rotate(self, step: int) -> None:
        """Remove checkpoints up to a step that are neither among the newest of them nor the best.

        Later ones can only be damaged, because training continued from an earlier one. They stay until it reaches them.
        """
        written = [c for c in self.checkpoints() if c.step <= step]
        keep = [*written[-KEPT:], min(reversed(written), key=_validation_loss)]
        for checkpoint in written:
            if checkpoint not in keep:
                remove_folder(checkpoint.path)


def _validation_loss(checkpoint: Checkpoint) -> float:
    """Return the validation loss of a checkpoint, infinite if it was not measured or cannot be read."""
    with contextlib.suppress(CheckpointError):
        loss = checkpoint.training_state().validation_loss
        if loss is not None:
            return loss
    return float("inf")
