"""Model folders in Hugging Face's layout: ``config.json`` and safetensors, read and written through their family.

References
----------
.. [1] Hugging Face, "Configuration", https://huggingface.co/docs/transformers/main_classes/configuration
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from axone.autograd.extend import Array
from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.family import Family, untied
from axone.llm.pretrained.gpt2 import GPT2
from axone.llm.pretrained.llama import LLAMA, QWEN2, QWEN3
from axone.llm.pretrained.native import NATIVE
from axone.llm.pretrained.weights import MatchedWeights, Order, match, require_merged, require_sizes, tensors_of
from axone.llm.storage.atomic import write_json
from axone.llm.storage.regular import LARGEST_JSON, read_bytes, read_json
from axone.llm.storage.safetensors import ArrayFile, Shape, State, write_arrays

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FAMILIES: Sequence[Family] = (GPT2, LLAMA, QWEN2, QWEN3, NATIVE)
"""A model is written as the first that can express it."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_MOST_SHARDS = 1000


class ShardedArrays:
    """The tensors of one safetensors file, or of the shards that an index names.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    CheckpointError
        If there are no weights, only pickled ones, or a shard or the index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._files: dict[str, ArrayFile] = {}
        for path in _weight_files(folder):
            file = ArrayFile(path)
            for name, entry in file.entries.items():
                if name in self._files:
                    raise CheckpointError(path, f"{name} is in {self._files[name].path.name} too")
                if entry.is_float:  # others are masks of old files; such a parameter is reported as missing
                    self._files[name] = file
        self.shapes: dict[str, Shape] = {name: file.entries[name].shape for name, file in self._files.items()}

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 if all tensors are, float32 otherwise."""
        kinds = {file.entries[name].dtype for name, file in self._files.items()}
        return np.dtype(np.float64 if kinds == {"F64"} else np.float32)

    def read(self, name: str, out: Array, order: Order | None = None) -> None:
        """Write a tensor into an array."""
        self._files[name].read_into(name, out)
        if order is not None:
            out[...] = out[order]


@dataclass(frozen=True)
class PretrainedFolder:
    """A model folder whose configuration has been read, and whose weights have been found.

    Attributes
    ----------
    config : LanguageModelConfig
    eos_ids : tuple of int
        The ids that end a text, from both configuration files.
    dtype : dtype
        Of the weights.
    """

    config: LanguageModelConfig
    eos_ids: tuple[int, ...]
    dtype: np.dtype[Any]
    _family: Family
    _arrays: ShardedArrays

    def match(self, shapes: Mapping[str, Shape]) -> MatchedWeights:
        """Match the weights against the shapes of a model's parameters by name.

        Raises
        ------
        CheckpointError
            If they do not fit.
        """
        family = self._family
        return match(self._arrays, [*family.tensors(self.config, shapes)], family.canonical_name, family.is_ignored)


def family_of(config: LanguageModelConfig) -> Family:
    """Return the first family that can express a configuration, in which a model is written."""
    return next(family for family in FAMILIES if family.fits(config))


def open_folder(folder: Path) -> PretrainedFolder:
    """Read the configuration of a model folder and the headers of its weights.

    Raises
    ------
    CheckpointError
        If the folder holds no model, one of an unknown kind, or one that is not computed exactly.
    """
    _require_own_files(folder)
    content = read_json(folder / CONFIG)
    kind = content.get("model_type")
    family = next((family for family in FAMILIES if family.model_type == kind), None)
    if family is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise CheckpointError(folder / CONFIG, f"model_type is {kind!r:.60}: {known} are read")
    config = family.from_config_json(folder / CONFIG, content)
    arrays = ShardedArrays(folder)
    require_sizes(folder / CONFIG, config, arrays.shapes)
    if config.tie_embeddings and _has_other_head(arrays, config, family):
        config = untied(config)
    eos_ids = _eos_ids(folder / CONFIG, content, config) | _generation_eos_ids(folder, config)
    return PretrainedFolder(config, tuple(sorted(eos_ids)), arrays.dtype, family, arrays)


def write_folder(
    folder: Path,
    config: LanguageModelConfig,
    state: State,
    *,
    eos_ids: Sequence[int] = (),
    bos_id: int | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Write a model's configuration and weights.

    Parameters
    ----------
    folder : Path
    config : LanguageModelConfig
    state : mapping of str to ndarray
        The parameters' arrays by name.
    eos_ids : sequence of int
        The ids that end a text.
    bos_id : int, optional
        The id that begins one.
    dtype : dtype, optional
        Of the file, by default that of the parameters.

    Raises
    ------
    OSError
        If the folder cannot be written.
    ValueError
        If the model has an adapter.
    """
    require_merged(state)
    folder.mkdir(parents=True, exist_ok=True)
    family = family_of(config)
    shapes = {name: array.shape for name, array in state.items()}
    arrays = tensors_of([*family.tensors(config, shapes)], state)
    if dtype is not None:
        arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    write_arrays(folder / WEIGHTS, arrays)
    written = next(iter(arrays.values())).dtype
    eos = list(eos_ids) if len(eos_ids) > 1 else next(iter(eos_ids), None)
    tokens = {"bos_token_id": bos_id, "eos_token_id": eos} if family is not NATIVE else {"eos_token_id": eos}
    write_json(folder / CONFIG, {**family.to_config_json(config), **tokens, "dtype": str(written)})
    if eos is None and os.path.lexists(folder / GENERATION_CONFIG):
        (folder / GENERATION_CONFIG).unlink()  # that of a model that was here before
    if eos is not None:
        given = {name: value for name, value in tokens.items() if value is not None}
        write_json(folder / GENERATION_CONFIG, given)


def _require_own_files(folder: Path) -> None:
    """Refuse links that leave a model folder, except those of Hugging Face's cache into its own folder of blobs.

    A snapshot of that cache, ``models--OWNER--NAME/snapshots/COMMIT``, consists of links to ``models--OWNER--NAME/blobs``.

    Raises
    ------
    CheckpointError
        If a file of the folder is another link.
    """
    own = folder.resolve()
    allowed = {own} if own.parent.name != "snapshots" else {own, own.parent.parent / "blobs"}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() and path.resolve().parent not in allowed:
            raise CheckpointError(path, "is a link that leaves the model's folder: copy the file there instead")


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, each a plain name in it."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        for pickled in (found for pattern in _PICKLES for found in folder.glob(pattern)):
            raise CheckpointError(
                pickled, f"is a pickle, which can run any code and is never read here: convert it to {WEIGHTS}"
            )
        return [folder / WEIGHTS]  # which says that it is missing
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise CheckpointError(folder / INDEX, "weight_map must be an object from tensor names to file names")
    names = sorted(set(index.values()))
    if len(names) > _MOST_SHARDS:
        raise CheckpointError(folder / INDEX, f"names {len(names)} shards, and {_MOST_SHARDS} are the most")
    for name in names:
        if Path(name).name != name or {"\\", "\0"} & {*name} or not name.endswith(".safetensors"):
            raise CheckpointError(
                folder / INDEX, f"names the shard {name!r:.60}, which is not a file name in this folder"
            )
    return [folder / name for name in names]


def _has_other_head(arrays: ShardedArrays, config: LanguageModelConfig, family: Family) -> bool:
    """Return whether the weights hold an output layer that differs from the embedding, which a tied model lacks.

    transformers keeps such a head although the configuration calls the two tied.

    Raises
    ------
    CheckpointError
        If the output layer has another shape.
    """
    head = next((name for name in arrays.shapes if family.canonical_name(name) == family.head), None)
    shape = (config.vocab_size, config.embed_dim)
    if head is None:
        return False
    if arrays.shapes[head] != shape:
        raise CheckpointError(arrays.path, f"{head} must have shape {shape} and has {arrays.shapes[head]}")
    specs = [*family.tensors(config, {"embedding.weight": shape})]
    name = next((name for name in arrays.shapes if family.canonical_name(name) == specs[0].file_name), None)
    if name is None or arrays.shapes[name] != shape:
        return False
    one, other = np.empty(shape, np.float32), np.empty(shape, np.float32)
    arrays.read(head, one)
    arrays.read(name, other)
    return not np.array_equal(one, other)


def _eos_ids(path: Path, content: Mapping[str, Any], config: LanguageModelConfig) -> set[int]:
    """Return the ids that ``eos_token_id`` names, a number or a list of numbers."""
    value = content.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(id) is int and id >= 0 for id in ids):
        raise CheckpointError(path, f"eos_token_id must be a token id or a list of them, not {value!r:.60}")
    return {id for id in ids if id < config.vocab_size}


def _generation_eos_ids(folder: Path, config: LanguageModelConfig) -> set[int]:
    """Return the ids that ``generation_config.json`` adds: a file that is absent or not JSON adds none."""
    path = folder / GENERATION_CONFIG
    if not path.is_file():
        return set()
    try:
        content = json.loads(read_bytes(path, LARGEST_JSON).decode("utf-8"))
    except (CheckpointError, ValueError, RecursionError):
        return set()
    return _eos_ids(path, content, config) if isinstance(content, dict) else set()
