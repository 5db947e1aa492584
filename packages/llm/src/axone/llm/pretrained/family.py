"""What a family of models says of its files: a module such as `gpt2` has these functions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from axone.llm.config import LanguageModelConfig
from axone.llm.storage.safetensors import Shape


@dataclass(frozen=True)
class TensorSpec:
    """Where a parameter lies in a file of weights.

    Attributes
    ----------
    name : str or None
        Ours; None for an array that the family has and our model does without, which must be zero.
    file_name : str
        The file's, in today's form.
    shape : tuple of int
        In the file.
    transposed : bool
        Whether ours is the transposed.
    """

    name: str | None
    file_name: str
    shape: Shape
    transposed: bool = False


class Family(Protocol):
    """How names, shapes and options of a family translate into ours."""

    def fits(self, config: LanguageModelConfig) -> bool:
        """Tell whether the family can be what a configuration describes."""

    def to_config_json(self, config: LanguageModelConfig) -> dict[str, Any]:
        """Return the content of ``config.json``."""

    def from_config_json(self, path: Path, content: dict[str, Any]) -> LanguageModelConfig:
        """Return the configuration that ``config.json`` describes."""

    def places(self, config: LanguageModelConfig) -> Iterator[TensorSpec]:
        """Yield where each parameter lies in a file."""

    def canonical_name(self, name: str) -> str:
        """Return today's form of a name in a file."""

    def is_ignored(self, name: str) -> bool:
        """Tell whether a file may hold an array that is not read."""
