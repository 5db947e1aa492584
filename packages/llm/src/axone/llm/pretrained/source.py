"""A pretrained model as a source of weights: a folder in Hugging Face's layout or a GGUF file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from axone.llm.config import LanguageModelConfig
from axone.llm.pretrained.folder import open_folder
from axone.llm.pretrained.weights import MatchedWeights
from axone.llm.storage.safetensors import Shape


class PretrainedModel(Protocol):
    """A model whose configuration has been read, and whose weights can be."""

    @property
    def config(self) -> LanguageModelConfig:
        """The model's configuration."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters."""

    def match(self, shapes: Mapping[str, Shape]) -> MatchedWeights:
        """Match the weights against the shapes of a model's parameters by name."""


@contextlib.contextmanager
def open_pretrained(path: Path) -> Iterator[PretrainedModel]:
    """Open a model folder or a GGUF file.

    Raises
    ------
    CheckpointError
        If the path holds no model, or one that is not computed exactly.
    """
    if is_gguf(path):
        from axone.llm.pretrained.gguf.model import PretrainedGGUF  # not before it is used

        with PretrainedGGUF(path) as file:
            yield file
    else:
        yield open_folder(path)


def is_gguf(path: Path) -> bool:
    """Return whether a path names a GGUF file."""
    return path.suffix.lower() == ".gguf" and not path.is_dir()
