"""Our own family: every configuration, under our own names, for models that no other family can express."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.pretrained.family import TensorSpec
from axone.llm.pretrained.layout import parameter_shapes
from axone.llm.storage.json_schema import Format, from_json, numbered

CONFIG_FORMAT = Format((numbered,))


def fits(config: LanguageModelConfig) -> bool:  # noqa: ARG001 - as every family is asked
    """Tell whether the family can be what a configuration describes: always."""
    return True


def to_config_json(config: LanguageModelConfig) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    return {"model_type": "axone", **CONFIG_FORMAT.stamp(asdict(config))}


def from_config_json(path: Path, content: dict[str, Any]) -> LanguageModelConfig:
    """Return the configuration that ``config.json`` describes.

    Raises
    ------
    CheckpointError
        If a field is missing, unknown, or of another type or range.
    """
    fields = CONFIG_FORMAT.upgrade(content, path)
    fields.pop("model_type", None)
    return from_json(LanguageModelConfig, fields, path)


def places(config: LanguageModelConfig) -> Iterator[TensorSpec]:
    """Yield where each parameter lies in a file."""
    return (TensorSpec(name, name, shape) for name, shape in parameter_shapes(config))


def canonical_name(name: str) -> str:
    """Return today's form of a name in a file: there is only one."""
    return name


def is_ignored(name: str) -> bool:  # noqa: ARG001 - as every family is asked
    """Tell whether a file may hold an array that is not read: no."""
    return False
