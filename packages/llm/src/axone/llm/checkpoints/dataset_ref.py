"""The tokens that a run was trained on, kept with it, so that it can be resumed wherever it is moved to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from axone.llm.data import token_file
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import sync_folder
from axone.tokenizer import Tokenizer

FOLDER = "data"


@dataclass(frozen=True)
class DatasetRef:
    """A part of a token file.

    Attributes
    ----------
    path : str
        From the run's folder on, or absolute.
    start, stop : int
        In tokens.
    """

    path: str
    start: int
    stop: int

    def __post_init__(self) -> None:
        os.fsencode(self.path)  # a lone surrogate is a ValueError
        if not Path(self.path).name or "\0" in self.path:
            raise ValueError(f"path must name a file, and is {self.path!r}")

    def open(self, run: Path, tokenizer: Tokenizer) -> TokenDataset:
        """Return the tokens.

        Raises
        ------
        CheckpointError
            If they are gone, damaged, or not as many as they were.
        """
        dataset = TokenDataset.open(run / self.path, tokenizer)
        if not 0 <= self.start < self.stop <= len(dataset):
            raise CheckpointError(
                run / self.path, f"must hold tokens {self.start} to {self.stop}, and holds {len(dataset)}"
            )
        return dataset.part(self.start, self.stop)


def store_dataset(run: Path, dataset: TokenDataset, name: str) -> DatasetRef:
    """Keep a dataset in a run's folder: written, or as a second name of the file that it is in already.

    Parameters
    ----------
    run : Path
        The run's folder.
    dataset : TokenDataset
    name : str
        Of the file, if one is written.

    Returns
    -------
    DatasetRef
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    if dataset.path is None:
        dataset.write(folder / f"{name}.bin")
        return DatasetRef(f"{FOLDER}/{name}.bin", 0, len(dataset))
    path = f"{FOLDER}/{dataset.path.name}" if _link(dataset.path, folder) else str(dataset.path.absolute())
    return DatasetRef(path, dataset.start, dataset.start + len(dataset))


def _link(path: Path, folder: Path) -> bool:
    """Give a token file a second name in a folder, and tell whether that worked."""
    try:
        for source in (path, token_file.ends_path(path), token_file.metadata_path(path)):
            target = folder / source.name
            if source.exists() and not target.exists():
                os.link(source, target)
        sync_folder(folder)
    except OSError:  # another disk, or one without links
        return False
    return True
