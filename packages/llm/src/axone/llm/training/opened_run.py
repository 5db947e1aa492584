"""Opened run: model, data and options of the newest valid checkpoint, from which a training continues."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axone.llm.adapters.adapter import Adapter
from axone.llm.checkpoints.adapter_files import is_adapter, open_adapted
from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.checkpoints.checkpoint import Checkpoint
from axone.llm.checkpoints.dataset_ref import open_datasets, read_ref
from axone.llm.checkpoints.run import Run
from axone.llm.checkpoints.run_format import OPTIONS
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import CheckpointError
from axone.llm.storage.json_schema import from_json
from axone.llm.training.config import TrainerConfig


@dataclass(frozen=True)
class OpenedRun:
    """A run that is opened to be continued.

    Attributes
    ----------
    run : Run
    checkpoint : Checkpoint
    seen : list of Path
        All checkpoints, by which a training in between is noticed.
    bundle : ModelBundle
    adapter : Adapter or None
    data : mapping of str to TrainingData
        ``"train"`` and ``"validation"``.
    config : TrainerConfig
    notes : dict
        Options of the caller that began the run.
    new_options : dict or None
        Content of ``run.json`` if the number of steps is another one.
    """

    run: Run
    checkpoint: Checkpoint
    seen: list[Path]
    bundle: ModelBundle
    adapter: Adapter | None
    data: Mapping[str, TrainingData]
    config: TrainerConfig
    notes: dict[str, Any]
    new_options: dict[str, Any] | None


def open_run(run: str | os.PathLike[str], steps: int | None) -> OpenedRun:
    """Open a run, maybe for another number of steps.

    Raises
    ------
    CheckpointError
        If the folder does not hold a run, or its data is missing.
    ValueError
        If the run has made these steps already.
    """
    place = Run(run)
    path, options = place.path / OPTIONS, place.options()
    seen = [checkpoint.path for checkpoint in place.checkpoints()]
    checkpoint = place.latest()
    adapter = None
    if is_adapter(checkpoint.path):
        bundle, adapter = open_adapted(checkpoint.path)
    else:
        bundle = ModelBundle.read(checkpoint.path)
    parts = options.pop("data", None)
    if not isinstance(parts, dict) or set(parts) != {"train", "validation"}:
        raise CheckpointError(path, "must say which data to train and to validate on")
    refs = {name: read_ref(part, path) for name, part in parts.items()}
    data = open_datasets(place.path, refs, bundle.tokenizer)
    config = from_json(TrainerConfig, options.pop("trainer", None), path)
    if steps is not None and steps <= checkpoint.step:
        raise ValueError(f"steps ({steps}) must be above {checkpoint.step}, the number of steps that the run has made")
    new_options = None
    if steps is not None:
        config = config.with_steps(steps)
        new_options = {**options, "trainer": asdict(config), "data": parts}
    return OpenedRun(place, checkpoint, seen, bundle, adapter, data, config, options, new_options)
