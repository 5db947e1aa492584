"""Checkpoints: a model folder, the training state, the optimizer's state, and a manifest of SHA-256 sums.

::

    config.json  model.safetensors    the model, in the conventions of its family
    tokenizer.json                    the tokenizer
    tokenizer_config.json             the tokenizer's class, for transformers
    trainer.json                      the training state
    trainer.safetensors               the optimizer's state
    manifest.json                     SHA-256 sums of all files above

The checkpoint of a fine-tuning holds an adapter instead of model and tokenizer: ``adapter_config.json``,
``adapter_model.safetensors``, and ``base.json`` with the name and SHA-256 sum of the base.

Files that a file manager adds, such as ``.DS_Store``, are ignored.
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
from axone.llm.storage.regular import parse_json, read_bytes, read_json, sha256
from axone.llm.storage.safetensors import ArrayFile, WritableState, write_arrays

MANIFEST = "manifest.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TRAINER, OPTIMIZER = "trainer.json", "trainer.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
REQUIRED = {"config.json", "model.safetensors", TOKENIZER, TRAINER, OPTIMIZER}
REQUIRED_OF_ADAPTER = {ADAPTER_CONFIG, "adapter_model.safetensors", "base.json", TRAINER, OPTIMIZER}

STEP = re.compile(r"step-(\d{6,12})")

_LARGEST_MANIFEST = 1 << 20  # bytes
_ADDED_BY_SYSTEMS = {"Thumbs.db", "desktop.ini"}  # and all names that begin with a dot


def _rename_environment(document: Document) -> Document:
    """Return ``trainer.json`` of format 0 with the names of format 1 for its numbers of workers."""
    environment = document.get("environment")
    names = {"workers": "replicas", "threads": "workers"}
    return {**document, "environment": renamed(environment, names)} if isinstance(environment, dict) else document


MANIFEST_FORMAT = Format((numbered,))
TRAINER_FORMAT = Format((_rename_environment,))


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """State of a training besides its arrays.

    Attributes
    ----------
    step : int
        Number of steps made.
    validation_loss : float or None
        Validation loss of these weights, in nats per token; None if it was not measured.
    full_loss : float or None
        The same over all validation data, as it is measured in the end.
    latest_loss : float or None
        Last validation loss that was measured, maybe of earlier weights.
    best_loss : float or None
        Lowest validation loss so far.
    evaluations_since_best : int
        Number of evaluations since then.
    temperature : float or None
        What the logits were divided by after the last step; None before, and without calibration.
    environment : dict
        Versions, machine and numbers of workers, which the bits of a result depend on.
    """

    step: int
    validation_loss: float | None = None
    full_loss: float | None = None
    latest_loss: float | None = None
    best_loss: float | None = None
    evaluations_since_best: int = 0
    temperature: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step < 0 or self.evaluations_since_best < 0:
            raise ValueError("step and evaluations_since_best must not be negative")

    def measured(self, loss: float) -> TrainingState:
        """Return the state after an evaluation."""
        better = self.best_loss is None or loss < self.best_loss
        return replace(
            self,
            validation_loss=loss,
            best_loss=loss if better else self.best_loss,
            evaluations_since_best=0 if better else self.evaluations_since_best + 1,
        )


class ModelFiles(Protocol):
    """A model that writes itself into a folder: all that a checkpoint needs of it."""

    @property
    def num_bytes(self) -> int:
        """The approximate size of its files."""

    def write(self, folder: Path) -> None:
        """Write its files."""


class Checkpoint:
    """Folder of one checkpoint.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def step(self) -> int:
        """The number of steps made, from the folder's name."""
        match = STEP.search(self.path.name)
        if match is None:
            raise CheckpointError(self.path, "is not named after a step")
        return int(match[1])

    @classmethod
    def write(cls, path: Path, model: ModelFiles, state: TrainingState, optimizer_state: WritableState) -> Checkpoint:
        """Write a checkpoint durably: the folder gets its name when all of it is on the disk.

        Parameters
        ----------
        path : Path
        model : ModelFiles
        state : TrainingState
        optimizer_state : mapping of str to ndarray or StreamedArray

        Raises
        ------
        OSError
            If it cannot be written, with the bytes that it takes; nothing is left behind.
        """
        try:
            with new_folder(path) as folder:
                model.write(folder)
                write_arrays(folder / OPTIMIZER, optimizer_state)
                write_json(folder / TRAINER, TRAINER_FORMAT.stamp(asdict(state)))
                names = sorted(file.name for file in folder.iterdir())
                sums = {name: sha256(folder / name) for name in names}
                write_json(folder / MANIFEST, MANIFEST_FORMAT.stamp({"sha256": sums}))
        except OSError as error:
            needed = model.num_bytes + sum(array.nbytes for array in optimizer_state.values())
            reason = f"{os.strerror(error.errno or errno.EIO)}, and a checkpoint takes about {needed:,} bytes"
            raise OSError(error.errno, reason, str(path)) from error
        return cls(path)

    def verify(self) -> None:
        """Check every file against the manifest; a folder without a manifest, from elsewhere, passes.

        Raises
        ------
        CheckpointError
            If a file is missing, changed, a symbolic link, not regular, or not in the manifest.
        """
        manifest = self.path / MANIFEST
        if not os.path.lexists(manifest):
            return
        written = read_bytes(manifest, _LARGEST_MANIFEST, follow_links=False)
        content = parse_json(manifest, written)
        sums = MANIFEST_FORMAT.upgrade(content, manifest).get("sha256")
        if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
            raise CheckpointError(manifest, "must hold the files' sums under sha256")
        if not set(content) <= {"format", "sha256"} or written != json_bytes(content):
            raise CheckpointError(manifest, "is damaged: it is not written as this package writes it")
        present = self._files() - {MANIFEST}
        for name in sorted(present - set(sums)):
            raise CheckpointError(self.path / name, "is not in the manifest")
        required = REQUIRED_OF_ADAPTER if ADAPTER_CONFIG in sums else REQUIRED
        for name in sorted(required - set(sums)):
            raise CheckpointError(manifest, f"must hold the sum of {name}")
        for name, expected in sums.items():
            if name not in present:
                raise CheckpointError(self.path / name, "is missing")
            if sha256(self.path / name, follow_links=False) != expected:
                raise CheckpointError(self.path / name, "is damaged: its SHA-256 sum is not that of the manifest")

    def _files(self) -> set[str]:
        try:
            names = {file.name for file in self.path.iterdir()}
        except OSError as error:
            raise CheckpointError(self.path, f"cannot be read ({error.strerror})") from error
        return {name for name in names if not name.startswith(".")} - _ADDED_BY_SYSTEMS

    def training_state(self) -> TrainingState:
        """Read the training state.

        Raises
        ------
        CheckpointError
            If the file is missing or damaged.
        """
        path = self.path / TRAINER
        return from_json(TrainingState, TRAINER_FORMAT.upgrade(read_json(path), path), path)

    def optimizer_state(self) -> dict[str, Any]:
        """Read the optimizer's state.

        Raises
        ------
        CheckpointError
            If the file is missing or damaged.
        """
        return self.optimizer_file().read_all()

    def optimizer_file(self) -> ArrayFile:
        """Open the file of the optimizer's state.

        Raises
        ------
        CheckpointError
            If it is missing or damaged.
        """
        return ArrayFile(self.path / OPTIMIZER)
