"""A model's folder: ``config.json`` and ``model.safetensors``, read and written through its family.

The family, such as `gpt2`, says how names and shapes translate; here are the files. What a configuration asks for is
compared with what the file holds before any of it is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained import gpt2, native
from axone.llm.pretrained.family import Family, TensorSpec
from axone.llm.storage.atomic import read_json, write_json
from axone.llm.storage.safetensors import ArrayFile, State, write_arrays

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FAMILIES: dict[str, Family] = {"gpt2": gpt2, "axone": native}
"""By their ``model_type``; a model is written as the first that can express it."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_MOST_FAULTS = 20

Weights: TypeAlias = Iterator[tuple[str, NDArray[Any]]]


def write(folder: Path, config: LanguageModelConfig, state: State) -> None:
    """Write a model's configuration and weights.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family = next(family for family in FAMILIES.values() if family.fits(config))
    arrays = {}
    for place in family.places(config):
        if place.name is None:
            arrays[place.file_name] = np.zeros(place.shape, next(iter(state.values())).dtype)
        else:
            arrays[place.file_name] = state[place.name].T if place.transposed else state[place.name]
    write_arrays(folder / WEIGHTS, arrays)
    write_json(folder / CONFIG, family.to_config_json(config))


def read(folder: Path) -> tuple[LanguageModelConfig, Weights]:
    """Read a model's configuration, and its weights one after the other.

    Returns
    -------
    config : LanguageModelConfig
    weights : iterator of (str, ndarray)
        Our names, each once, with arrays of our shapes.

    Raises
    ------
    CheckpointError
        If there are none, or they are of a kind that is not known, or do not belong together.
    """
    content = read_json(folder / CONFIG)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = " or ".join(f'"{name}"' for name in FAMILIES)
        raise CheckpointError(folder / CONFIG, f"the model_type must be {known}, and is {kind!r:.60}")
    family = FAMILIES[kind]
    config = family.from_config_json(folder / CONFIG, content)
    return config, _read_weights(_weights_path(folder), config, family)


def _weights_path(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.exists():
        for pickled in (found for pattern in _PICKLES for found in folder.glob(pattern)):
            raise CheckpointError(
                pickled, f"is a pickle, which can run any code and is never read here: convert it to {WEIGHTS}"
            )
    return path


def _read_weights(path: Path, config: LanguageModelConfig, family: Family) -> Weights:
    """Check that a file holds what a configuration asks for, and return an iterator over it."""
    with ArrayFile(path) as file:
        found = _match(file, config, family)

    def weights() -> Weights:
        with ArrayFile(path) as file:
            for place, name in found:
                array = file.read(name)
                if place.name is not None:
                    yield place.name, array.T if place.transposed else array
                elif array.any():
                    raise CheckpointError(path, f"{name} must be zero: {CONFIG} says that the model does without it")

    return weights()


def _match(file: ArrayFile, config: LanguageModelConfig, family: Family) -> Sequence[tuple[TensorSpec, str]]:
    """Return each parameter's place and its name in the file."""
    named = {family.canonical_name(name): name for name in file.entries}
    found: list[tuple[TensorSpec, str]] = []
    faults = [f"{name} appears twice" for name in file.entries if named[family.canonical_name(name)] != name]
    for place in family.places(config):
        if len(faults) > _MOST_FAULTS:
            raise CheckpointError(file.path, "; ".join([*faults[:_MOST_FAULTS], "and so on"]))
        name = named.pop(place.file_name, None)
        if name is None:
            faults.append(f"{place.file_name} is missing")
            continue
        entry = file.entries[name]
        if entry.shape != place.shape:
            faults.append(f"{name} must have shape {place.shape} and has {entry.shape}")
        elif "F" not in entry.dtype:
            faults.append(f"{name} must hold floating-point numbers and holds {entry.dtype}")
        found.append((place, name))
    faults += [f"{name} is not expected" for today, name in named.items() if not family.is_ignored(today)]
    if faults:
        raise CheckpointError(file.path, "; ".join(faults[:_MOST_FAULTS]))
    return found
