"""A checkpoint: a model's folder, what is needed to resume, and a manifest of SHA-256 sums that vouches for all of it.

::

    config.json  model.safetensors    the model, in the conventions of its family
    tokenizer.json                    the tokenizer
    trainer.json  trainer.safetensors the step, and what the optimizer remembers
    manifest.json                     the sums of all files above
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import json_bytes, new_folder, write_json
from axone.llm.storage.json_schema import Document, Format, from_json, numbered, renamed
from axone.llm.storage.regular import read_json, sha256
from axone.llm.storage.safetensors import State, read_arrays, write_arrays

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
TRAINER, MOMENTS = "trainer.json", "trainer.safetensors"
REQUIRED = {"config.json", "model.safetensors", TOKENIZER, TRAINER, MOMENTS}

RENAMED_ENVIRONMENT = {"workers": "replicas", "threads": "workers"}
"""Fields of the environment in format 0 of ``trainer.json``, and their names in format 1."""


def _rename_environment(document: Document) -> Document:
    """Return ``trainer.json`` of format 0 with its environment's fields under their names in format 1."""
    environment = document.get("environment")
    if not isinstance(environment, dict):
        return document
    return {**document, "environment": renamed(environment, RENAMED_ENVIRONMENT)}


MANIFEST_FORMAT, TRAINER_FORMAT = Format((numbered,)), Format((_rename_environment,))

STEP = re.compile(r"step-(\d{6,12})")


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """How far a training had come: all that resuming needs besides the arrays.

    Attributes
    ----------
    step : int
        The steps made.
    validation_loss : float or None
        What was measured with these weights, in nats a token; None if nothing was.
    full_loss : float or None
        The same over all of the held-out text, as it is measured in the end.
    latest_loss : float or None
        The last one that was measured, maybe with earlier weights.
    best_loss : float or None
        The lowest validation loss so far.
    evaluations_since_best : int
        How often it has been measured since and was not lower.
    environment : dict
        What the bits of a result depend on besides the code.
    """

    step: int
    validation_loss: float | None = None
    full_loss: float | None = None
    latest_loss: float | None = None
    best_loss: float | None = None
    evaluations_since_best: int = 0
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step < 0 or self.evaluations_since_best < 0:
            raise ValueError("step and evaluations_since_best must not be negative")

    def measured(self, loss: float) -> TrainingState:
        """Return the progress after an evaluation."""
        better = self.best_loss is None or loss < self.best_loss
        return replace(
            self,
            validation_loss=loss,
            best_loss=loss if better else self.best_loss,
            evaluations_since_best=0 if better else self.evaluations_since_best + 1,
        )


class ModelFiles(Protocol):
    """A model that writes itself into a folder: all that a checkpoint has to know of it."""

    @property
    def num_bytes(self) -> int:
        """About how much it writes."""

    def write(self, folder: Path) -> None:
        """Write its files."""


class Checkpoint:
    """One checkpoint's folder.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def step(self) -> int:
        """The steps made, by the folder's name."""
        match = STEP.search(self.path.name)
        if match is None:
            raise CheckpointError(self.path, "is not named after a step")
        return int(match[1])

    @classmethod
    def write(cls, path: Path, model: ModelFiles, progress: TrainingState, moments: State) -> Checkpoint:
        """Write a checkpoint, durably: the folder gets its name when all of it is on the disk.

        Parameters
        ----------
        path : Path
        model : ModelFiles
        progress : TrainingState
        moments : mapping of str to ndarray
            What the optimizer remembers.

        Raises
        ------
        OSError
            If it cannot be written, with the bytes that it takes; nothing is left behind.
        """
        try:
            with new_folder(path) as folder:
                model.write(folder)
                write_arrays(folder / MOMENTS, moments)
                write_json(folder / TRAINER, TRAINER_FORMAT.stamp(asdict(progress)))
                names = sorted(file.name for file in folder.iterdir())
                sums = {name: sha256(folder / name) for name in names}
                write_json(folder / MANIFEST, MANIFEST_FORMAT.stamp({"sha256": sums}))
        except OSError as error:
            needed = model.num_bytes + sum(array.nbytes for array in moments.values())
            reason = f"{os.strerror(error.errno or errno.EIO)}, and a checkpoint takes about {needed:,} bytes"
            raise OSError(error.errno, reason, str(path)) from error
        return cls(path)

    def verify(self) -> None:
        """Check every file against the manifest; a folder without one, from elsewhere, passes.

        Raises
        ------
        CheckpointError
            If a file is missing, changed or not in the manifest.
        """
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return
        content = read_json(manifest)
        sums = MANIFEST_FORMAT.upgrade(content, manifest).get("sha256")
        if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
            raise CheckpointError(manifest, "must hold the files' sums under sha256")
        if manifest.read_bytes() != json_bytes(content):
            raise CheckpointError(manifest, "is damaged: it is not written as this package writes it")
        present = self._files() - {MANIFEST}
        for name in sorted(present - set(sums)):
            raise CheckpointError(self.path / name, "is not in the manifest")
        for name in sorted(REQUIRED - set(sums)):
            raise CheckpointError(manifest, f"must hold the sum of {name}")
        for name, expected in sums.items():
            if name not in present:
                raise CheckpointError(self.path / name, "is missing")
            if sha256(self.path / name) != expected:
                raise CheckpointError(self.path / name, "is damaged: its SHA-256 sum is not the manifest's")

    def _files(self) -> set[str]:
        try:
            return {file.name for file in self.path.iterdir()}
        except OSError as error:
            raise CheckpointError(self.path, f"cannot be read ({error.strerror})") from error

    def training_state(self) -> TrainingState:
        """Return how far training had come.

        Raises
        ------
        CheckpointError
            If it is not what it should be.
        """
        path = self.path / TRAINER
        return from_json(TrainingState, TRAINER_FORMAT.upgrade(read_json(path), path), path)

    def optimizer_state(self) -> dict[str, Any]:
        """Return what the optimizer remembered.

        Raises
        ------
        CheckpointError
            If it is not what it should be.
        """
        return read_arrays(self.path / MOMENTS)
