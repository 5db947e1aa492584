"""A language model and its tokenizer in one folder: written together, checked together, so that they never mismatch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from axone.llm.checkpoints.checkpoint import TOKENIZER, Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.errors import CheckpointError
from axone.llm.model import LanguageModel
from axone.llm.storage.atomic import require_folder
from axone.tokenizer import Tokenizer
from axone.tokenizer import load as load_tokenizer


@dataclass(frozen=True)
class ModelBundle:
    """What a checkpoint holds of a model.

    Attributes
    ----------
    model : LanguageModel
    tokenizer : Tokenizer
        Of no more tokens than the model knows.
    """

    model: LanguageModel
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.model.config.vocab_size:
            raise ValueError(
                f"the model must know all {self.tokenizer.vocab_size} tokens of the tokenizer, and knows "
                f"{self.model.config.vocab_size}"
            )

    @property
    def num_bytes(self) -> int:
        """How much its weights take."""
        return sum(parameter.data.nbytes for parameter in self.model.parameters())

    def write(self, folder: Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json``.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save(folder / TOKENIZER)

    @classmethod
    def read(cls, folder: Path) -> ModelBundle:
        """Read what `write` wrote; the model in evaluation mode.

        Raises
        ------
        CheckpointError
            If a file is not what it should be.
        """
        model, path = LanguageModel.from_pretrained(folder), folder / TOKENIZER
        try:
            tokenizer = load_tokenizer(path)
        except OSError as error:
            raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise CheckpointError(path, f"cannot be used ({error})") from error
        try:
            return cls(model, tokenizer)
        except ValueError as error:
            raise CheckpointError(folder, str(error)) from error


def load(folder: str | os.PathLike[str]) -> tuple[LanguageModel, Tokenizer]:
    """Return the model and the tokenizer of a run (its best checkpoint) or of one model folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer

    Raises
    ------
    CheckpointError
        If the folder is neither, or damaged.
    """
    path = Path(folder)
    require_folder(path)
    run = Run(path)
    if not run.checkpoints_path.is_dir():
        if not (path / "config.json").exists():
            raise CheckpointError(path, "is no model: it holds neither checkpoints nor a config.json")
        Checkpoint(path).verify()
        found = ModelBundle.read(path)
        return found.model, found.tokenizer
    while True:
        checkpoint = run.best()
        try:
            found = ModelBundle.read(checkpoint.path)
        except CheckpointError:
            if checkpoint.path.exists():
                raise
            # The run is being trained, and has moved on from this one meanwhile.
        else:
            return found.model, found.tokenizer
