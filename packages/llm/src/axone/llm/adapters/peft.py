"""PEFT's adapter folder: ``adapter_config.json`` and ``adapter_model.safetensors``, read and written.

PEFT has one adapter for each projection of its model. A projection here may be several of them, such as queries, keys and
values: then an adapter is split by rows of B when it is written, and adapters with different A are stacked when they are
read, with B block-diagonal. Both are exact.

References
----------
.. [1] Hugging Face, "PEFT checkpoint format", https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.folder import family_of
from axone.llm.storage.regular import read_json
from axone.llm.storage.safetensors import State, read_arrays

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Array = NDArray[Any]

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_REFUSED: dict[str, tuple[object, ...]] = {
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    **dict.fromkeys(
        (
            "alora_invocation_tokens",
            "arrow_config",
            "corda_config",
            "kasa_config",
            "lora_ga_config",
            "monteclora_config",
            "use_bdlora",
            "velora_config",
        ),
        (None, False, {}, []),
    ),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # others change the base
}
"""Options that are read with these values alone; the first is PEFT's default."""


@dataclass(frozen=True)
class Part:
    """A projection of the family's own model, and the rows of a linear layer here that it is.

    Attributes
    ----------
    name : str
        Path in the family's model, such as ``model.layers.0.self_attn.q_proj``.
    rows : slice
        Rows of the layer's weight.
    """

    name: str
    rows: slice


@dataclass(frozen=True)
class LowRank:
    """The two matrices of an adapter of one layer, and the factor of their product.

    Attributes
    ----------
    a : ndarray, shape (rank, in_features)
    b : ndarray, shape (out_features, rank)
    scale : float
    """

    a: Array
    b: Array
    scale: float


@dataclass(frozen=True)
class AdapterOptions:
    """Options of ``adapter_config.json``.

    Attributes
    ----------
    rank : int
    alpha : float
    dropout : float
    rslora : bool
    base_name : str or None
        The name or path of the base model.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    rslora: bool = False
    base_name: str | None = None

    @property
    def scale(self) -> float:
        """The factor of the low-rank products."""
        return self.alpha / self.divisor(self.rank)

    def divisor(self, rank: int) -> float:
        """Return the number by which alpha is divided for a rank."""
        return math.sqrt(rank) if self.rslora else rank


def parts_of(config: LanguageModelConfig, path: str, shape: tuple[int, int]) -> list[Part]:
    """Return the projections of the family's model that a linear layer is.

    Parameters
    ----------
    config : LanguageModelConfig
        Of the model.
    path : str
        Path of the layer, such as ``transformer.blocks.0.attention.qkv_proj``.
    shape : tuple of int
        Of its weight.
    """
    family = family_of(config)
    weight = f"{path}.weight"
    return [
        Part(spec.file_name.removesuffix(".weight"), slice(0, shape[0]) if spec.rows is None else spec.rows)
        for spec in family.tensors(config, {weight: shape})
        if spec.name == weight
    ]


def is_transposed(config: LanguageModelConfig) -> bool:
    """Return whether the family keeps the weights of its blocks transposed, as GPT-2 does."""
    family = family_of(config)
    specs = family.tensors(config, {"transformer.blocks.0.attention.out_proj.weight": (1, 1)})
    return any(spec.transposed for spec in specs)


def to_tensors(layers: Sequence[tuple[Sequence[Part], LowRank]], rank: int) -> tuple[dict[str, Array], int]:
    """Return PEFT's tensors by name, and their rank.

    Parameters
    ----------
    layers : sequence of (sequence of Part, LowRank)
    rank : int
        The rank that PEFT's configuration should have. It becomes larger if a stacked adapter does not fit into it, and
        the other adapters are then padded with zeros.
    """
    cut = [(part.name, _reduced(low.a, low.b[part.rows], rank)) for parts, low in layers for part in parts]
    largest = max((len(a) for _, (a, _) in cut), default=rank)
    tensors: dict[str, Array] = {}
    for name, (a, b) in cut:
        more = largest - len(a)
        tensors[f"{_PREFIX}{name}{_A}"] = np.pad(a, ((0, more), (0, 0)))
        tensors[f"{_PREFIX}{name}{_B}"] = np.pad(b, ((0, 0), (0, more)))
    return tensors, largest


def _reduced(a: Array, b: Array, rank: int) -> tuple[Array, Array]:
    """Return an equal adapter of a rank: without columns of B that are zero, if the others fit into it."""
    used = b.any(axis=0)
    if len(a) <= rank or used.sum() > rank:
        return a, b
    kept = np.sort(np.argsort(~used, kind="stable")[:rank])
    return a[kept], b[:, kept]


def to_config_json(options: AdapterOptions, modules: Sequence[str], *, transposed: bool) -> dict[str, Any]:
    """Return the content of ``adapter_config.json``: keys that old versions of PEFT know, too.

    Parameters
    ----------
    options : AdapterOptions
    modules : sequence of str
        Last parts of the names of the adapted projections.
    transposed : bool
        Whether the base keeps its weights transposed.
    """
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": options.base_name,
        "r": options.rank,
        "lora_alpha": int(options.alpha) if float(options.alpha).is_integer() else options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(modules),
        "bias": "none",
        "fan_in_fan_out": transposed,
        "use_rslora": options.rslora,
        "use_dora": False,
    }


def read_options(folder: Path) -> AdapterOptions:
    """Read ``adapter_config.json``.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or describes an adapter that is not computed here.
    """
    path = folder / CONFIG
    content = read_json(path)
    if content.get("peft_type") != "LORA":
        raise CheckpointError(path, f"peft_type is {content.get('peft_type')!r:.60}: only LORA is computed here")
    for option, allowed in _REFUSED.items():
        if option in content and content[option] not in allowed:
            raise CheckpointError(path, f"{option} is {content[option]!r:.60}: only {allowed[0]!r} is computed here")
    rank, alpha, dropout = content.get("r"), content.get("lora_alpha", 8), content.get("lora_dropout", 0.0)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise CheckpointError(path, f"r ({rank!r:.60}) must be an integer of at least 1")
    if not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
        raise CheckpointError(path, f"lora_alpha ({alpha!r:.60}) must be a positive number")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise CheckpointError(path, f"lora_dropout ({dropout!r:.60}) must be a number in [0, 1)")
    name = content.get("base_model_name_or_path")
    return AdapterOptions(
        rank,
        float(alpha),
        float(dropout),
        content.get("use_rslora") is True,
        name if isinstance(name, str) else None,
    )


def read_layers(
    folder: Path, options: AdapterOptions, config: LanguageModelConfig, shapes: Mapping[str, tuple[int, int]]
) -> dict[str, LowRank]:
    """Read ``adapter_model.safetensors``.

    Parameters
    ----------
    folder : Path
    options : AdapterOptions
        Those of the folder.
    config : LanguageModelConfig
        Of the base model.
    shapes : mapping of str to tuple of int
        Shapes of the weights of the base model's linear layers by path.

    Returns
    -------
    dict of str to LowRank
        By path of the layer.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or belongs to another model.
    """
    path = folder / WEIGHTS
    family = family_of(config)
    tensors = {_canonical(name, family.canonical_name): array for name, array in read_arrays(path).items()}
    layers: dict[str, LowRank] = {}
    for layer, shape in shapes.items():
        parts = parts_of(config, layer, shape)
        found = [(part, pair) for part in parts if (pair := _pair(path, part, shape, tensors)) is not None]
        if found:
            ranks = {len(a) for _, (a, _) in found}
            if ranks != {options.rank}:
                raise CheckpointError(
                    path,
                    f"{layer} has matrices of rank {max(ranks)}, and {CONFIG} says {options.rank}: the files do not match",
                )
            layers[layer] = _stacked(found, shape, options)
    if tensors:
        raise CheckpointError(path, f"adapts {min(tensors)!r:.80}, which the model lacks or must not adapt")
    if not layers:
        raise CheckpointError(path, "holds no adapter")
    return layers


def _canonical(name: str, canonical_name: Callable[[str], str]) -> str:
    short = name.removeprefix(_PREFIX)
    for suffix in (_A, _B):
        if short.endswith(suffix):
            return canonical_name(short.removesuffix(suffix) + ".weight").removesuffix(".weight") + suffix
    return name


def _pair(path: Path, part: Part, shape: tuple[int, int], tensors: dict[str, Array]) -> tuple[Array, Array] | None:
    """Take the two matrices of a projection out of the tensors; None if it has no adapter."""
    a, b = (tensors.pop(part.name + suffix, None) for suffix in (_A, _B))
    if a is None and b is None:
        return None
    if a is None or b is None:
        raise CheckpointError(path, f"{part.name} has one of its two matrices alone")
    rank, rows = len(a) if a.ndim else 0, part.rows.stop - part.rows.start
    if rank < 1 or a.shape != (rank, shape[1]) or b.shape != (rows, rank):
        raise CheckpointError(
            path,
            f"belongs to another base: {part.name} has matrices of shapes {a.shape} and {b.shape}, and a projection from "
            f"{shape[1]} to {rows} channels needs (r, {shape[1]}) and ({rows}, r)",
        )
    return a, b


def _stacked(
    found: Sequence[tuple[Part, tuple[Array, Array]]], shape: tuple[int, int], options: AdapterOptions
) -> LowRank:
    """Return one adapter for a layer of several projections: A stacked and B block-diagonal, unless all share one A."""
    first = found[0][1][0]
    shared = all(a.shape == first.shape and np.array_equal(a, first) for _, (a, _) in found)
    ranks = [len(a) for _, (a, _) in found]
    b = np.zeros((shape[0], ranks[0] if shared else sum(ranks)), found[0][1][1].dtype)
    start = 0
    for part, (_, block) in found:
        b[part.rows, start : start + block.shape[1]] = block
        start += 0 if shared else block.shape[1]
    a = first if shared else np.concatenate([a for _, (a, _) in found])
    return LowRank(a, b, options.scale)


def module_names(tensors: State) -> list[str]:
    """Return the last parts of the names of the adapted projections, as ``target_modules`` has them."""
    return sorted({name.removesuffix(_A).rpartition(".")[2] for name in tensors if name.endswith(_A)})
