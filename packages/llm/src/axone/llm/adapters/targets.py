"""Targets of an adapter: the linear layers of the blocks, by name here or in the model's family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from axone.llm.adapters import peft
from axone.llm.model import LanguageModel
from axone.nn import Linear

_BLOCKS = "transformer.blocks."
ALL = "all-linear"
_HEADS = ("head", "lm_head", "embed_tokens", "wte", "embedding")


def linear_layers(model: LanguageModel) -> dict[str, Linear]:
    """Return the linear layers of the blocks by path."""
    return {
        path: layer for path, layer in model.named_modules() if isinstance(layer, Linear) and path.startswith(_BLOCKS)
    }


def select(model: LanguageModel, layers: Mapping[str, Linear], targets: str | Sequence[str]) -> list[str]:
    """Return the paths of the layers that targets name."""
    if targets == ALL:
        return list(layers)
    wanted = {targets} if isinstance(targets, str) else set(targets)
    names: dict[str, list[str]] = {}  # path to the last parts of its family's names
    for path, layer in layers.items():
        parts = peft.parts_of(model.config, path, (layer.out_features, layer.in_features))
        names[path] = [part.name.rpartition(".")[2] for part in parts]
    known = sorted({path.rpartition(".")[2] for path in layers} | {name for each in names.values() for name in each})
    for name in sorted(wanted):
        if name in _HEADS:
            tied = "is tied to the embedding" if model.config.tie_embeddings else "is not computed with one"
            raise ValueError(f"targets ({name}) must not name the output layer or the embedding, which {tied}")
        if name not in known:
            raise ValueError(f"targets ({name}) match no layer: choose all-linear, or some of {', '.join(known)}")
    chosen = []
    for path, parts_names in names.items():
        if path.rpartition(".")[2] in wanted or wanted.issuperset(parts_names):
            chosen.append(path)
        elif missing := wanted.intersection(parts_names):
            raise ValueError(
                f"targets ({', '.join(sorted(missing))}) name a part of one layer: give all of {', '.join(parts_names)}"
            )
    if not chosen:
        raise ValueError(f"targets must name a layer: choose all-linear, or some of {', '.join(known)}")
    return chosen
