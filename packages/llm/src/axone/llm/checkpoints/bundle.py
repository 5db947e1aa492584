"""Model bundles: a language model and its tokenizer in one folder, written and checked together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from axone.llm.checkpoints.checkpoint import TOKENIZER, TOKENIZER_CONFIG, Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.errors import CheckpointError
from axone.llm.model import LanguageModel
from axone.llm.storage.atomic import require_folder, write_json
from axone.llm.storage.regular import open_regular
from axone.tokenizer import Tokenizer
from axone.tokenizer import load as load_tokenizer


@dataclass(frozen=True)
class ModelBundle:
    """A language model and its tokenizer.

    Attributes
    ----------
    model : LanguageModel
    tokenizer : Tokenizer
        Its vocabulary is at most that of the model.
    """

    model: LanguageModel
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.model.config.vocab_size:
            raise ValueError(
                f"vocab_size of the tokenizer ({self.tokenizer.vocab_size}) must be at most that of the model "
                f"({self.model.config.vocab_size})"
            )

    @property
    def num_bytes(self) -> int:
        """The size of the weights."""
        return sum(parameter.data.nbytes for parameter in self.model.parameters())

    def write(self, folder: Path) -> None:
        """Write the model's files, ``tokenizer.json`` and ``tokenizer_config.json``.

        The last makes transformers read the ids of ``tokenizer.json``; without it, it builds GPT-2's tokenizer for GPT-2's
        family, which gives other ids.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save(folder / TOKENIZER)
        write_json(folder / TOKENIZER_CONFIG, self.tokenizer.tokenizer_config())

    @classmethod
    def read(cls, folder: Path) -> ModelBundle:
        """Read the model, in evaluation mode, and the tokenizer of a folder.

        Raises
        ------
        CheckpointError
            If a file is missing or damaged, or the tokenizer is not the model's.
        """
        model, path = LanguageModel.from_pretrained(folder), folder / TOKENIZER
        try:
            open_regular(path).close()
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
    """Load the model and the tokenizer of a run (its best checkpoint) or of one model folder.

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
        if not os.path.lexists(path / "config.json"):
            raise CheckpointError(path, "is not a model: it holds neither checkpoints nor a config.json")
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
            # The run is being trained, and removed this checkpoint meanwhile.
        else:
            return found.model, found.tokenizer
