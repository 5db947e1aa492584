"""The native family: every configuration, under our own names, for models that no other family can express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.pretrained.family import TensorSpec
from axone.llm.storage.json_schema import Format, from_json, numbered
from axone.llm.storage.safetensors import Shape

CONFIG_FORMAT = Format((numbered,))


class _Native:
    """Our own format, in which names and shapes are those of the model."""

    model_type = "axone"
    head = None

    def fits(self, config: LanguageModelConfig) -> bool:  # noqa: ARG002 - every family is asked
        """Return whether the family can express a configuration: always."""
        return True

    def to_config_json(self, config: LanguageModelConfig) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {"model_type": self.model_type, **CONFIG_FORMAT.stamp(asdict(config))}

    def from_config_json(self, path: Path, content: dict[str, Any]) -> LanguageModelConfig:
        """Return the configuration that ``config.json`` describes.

        Raises
        ------
        CheckpointError
            If a field is missing, unknown, or of another type or range.
        """
        fields = CONFIG_FORMAT.upgrade(content, path)
        for name in ("model_type", "dtype", "eos_token_id"):
            fields.pop(name, None)
        return from_json(LanguageModelConfig, fields, path)

    def tensors(
        self,
        config: LanguageModelConfig,  # noqa: ARG002 - every family is asked
        shapes: Mapping[str, Shape],
    ) -> Iterator[TensorSpec]:
        """Yield the tensors of a weight file: the parameters."""
        return (TensorSpec(name, shape, name) for name, shape in shapes.items())

    def canonical_name(self, name: str) -> str:
        """Return a name as it is."""
        return name

    def is_ignored(self, name: str) -> bool:  # noqa: ARG002 - every family is asked
        """Return whether a file may hold a tensor that is not read: never."""
        return False


NATIVE = _Native()
