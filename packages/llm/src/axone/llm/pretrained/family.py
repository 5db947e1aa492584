"""Families of models: how each names and shapes its tensors and options, in both directions.

A family, such as `gpt2.GPT2`, translates configurations and lists `TensorSpec`s; `weights` moves the numbers. A new family
is one class here and one line in `folder.FAMILIES`, if the layers compute what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.storage.json_schema import from_json
from axone.llm.storage.safetensors import Shape

OWN = "axone"
"""The section of ``config.json`` for options that a family has no word for."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a weight file, and the part of a parameter that it holds.

    Attributes
    ----------
    file_name : str
        Name in the file, in its canonical form.
    shape : tuple of int
        Shape in the file.
    name : str or None
        Name of the parameter; None for a tensor that the family has and the model lacks, which must be zero.
    rows : slice or None
        Rows of the parameter, where several tensors make up one parameter.
    transposed : bool
        Whether the file holds the transposed matrix.
    interleaved_heads : int
        Number of heads whose rows the file holds in interleaved order (rotated channels side by side); 0 if it does not.
    """

    file_name: str
    shape: Shape
    name: str | None
    rows: slice | None = None
    transposed: bool = False
    interleaved_heads: int = 0


class Family(Protocol):
    """Translation between a family's files and ours."""

    @property
    def model_type(self) -> str:
        """The family's ``model_type`` in ``config.json``."""

    def fits(self, config: LanguageModelConfig) -> bool:
        """Return whether the family can express a configuration."""

    def to_config_json(self, config: LanguageModelConfig) -> dict[str, Any]:
        """Return the content of ``config.json``."""

    def from_config_json(self, path: Path, content: dict[str, Any]) -> LanguageModelConfig:
        """Return the configuration that ``config.json`` describes."""

    def tensors(self, config: LanguageModelConfig, shapes: Mapping[str, Shape]) -> Iterator[TensorSpec]:
        """Yield the tensors of a weight file, given the shapes of the model's parameters by name."""

    def canonical_name(self, name: str) -> str:
        """Return the canonical form of a tensor's name."""

    def is_ignored(self, name: str) -> bool:
        """Return whether a file may hold a tensor that is not read, given its canonical name."""

    @property
    def head(self) -> str | None:
        """Name in the file of an output layer that is not tied."""


def read_fields(
    path: Path, content: Mapping[str, Any], names: Mapping[str, str], given: Mapping[str, Any]
) -> LanguageModelConfig:
    """Return a configuration from a family's fields, fixed ones and the section ``"axone"``.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : mapping
        The content of ``config.json``.
    names : mapping of str to str
        The family's name of each field of ours that it has a word for.
    given : mapping
        Fields of ours that follow from the family or were computed from `content`.

    Raises
    ------
    CheckpointError
        If a field is missing, or of another type or range.
    """
    own = content.get(OWN, {})
    if not isinstance(own, dict):
        raise CheckpointError(path, f"{OWN} must be a JSON object, not {own!r:.60}")
    read = {ours: content[theirs] for ours, theirs in names.items() if theirs in content}
    return from_json(LanguageModelConfig, {**given, **read, **own}, path, called=names)


def own_section(config: LanguageModelConfig, read_back: LanguageModelConfig) -> dict[str, Any]:
    """Return the section that makes a configuration come back equal: the fields that the family's own words lose."""
    lost = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if getattr(config, field.name) != getattr(read_back, field.name)
    }
    return {OWN: lost} if lost else {}


def require_fixed(path: Path, content: Mapping[str, Any], fixed: Mapping[str, tuple[object, ...]]) -> None:
    """Check options that the model computes in one way only.

    Raises
    ------
    CheckpointError
        If an option has a value that is not among the allowed ones.
    """
    for field, allowed in fixed.items():
        if content.get(field, allowed[0]) not in allowed:
            raise CheckpointError(path, f"{field} is {content[field]!r:.60}: only {allowed[0]!r} is computed here")


def untied(config: LanguageModelConfig) -> LanguageModelConfig:
    """Return a configuration whose output layer has a weight of its own."""
    return replace(config, tie_embeddings=False)
