"""Dataset references: the tokens of a run, stored in its folder, so that it can be resumed wherever it is moved to.

A token file gets a second name in the run (a hard link), which costs no space and stays valid when the first name is
removed or replaced. Where that is not possible, the ids are written into the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from axone.llm.data.dataset import TokenDataset
from axone.llm.data.token_file import TokenFile, open_tokens
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import CheckpointError, warn_caller
from axone.llm.storage.json_schema import from_json
from axone.llm.storage.regular import sha256
from axone.tokenizer import Tokenizer

FOLDER = "data"


@dataclass(frozen=True)
class DatasetRef:
    """Reference to a range of a token file.

    Attributes
    ----------
    path : str
        Relative to the run's folder, in which it must be.
    start, stop : int
        Positions of ids in the file.
    external : bool
        Whether the path may leave the run, as in format 0.
    """

    path: str
    start: int
    stop: int
    external: bool = False

    def __post_init__(self) -> None:
        os.fsencode(self.path)  # a lone surrogate is a ValueError
        if not Path(self.path).name or "\0" in self.path:
            raise ValueError(f"path ({self.path!r}) must name a file")
        leaves = (
            Path(self.path).is_absolute() or ".." in Path(self.path).parts or ".." in PurePosixPath(self.path).parts
        )
        if leaves and not self.external:
            raise ValueError(f"path ({self.path!r}) must be inside the run")


@dataclass(frozen=True)
class ConversationsRef:
    """Reference to conversations that are stored in a run.

    Attributes
    ----------
    conversations : str
        Name of the file in the run's folder of data.
    sha256 : str
    """

    conversations: str
    sha256: str

    def __post_init__(self) -> None:
        if Path(self.conversations).name != self.conversations or "\\" in self.conversations:
            raise ValueError(f"conversations ({self.conversations!r}) must be the name of a file")


Ref: TypeAlias = DatasetRef | ConversationsRef


def read_ref(content: object, path: Path) -> Ref:
    """Return the reference that a JSON value describes.

    Raises
    ------
    CheckpointError
        If it describes none.
    """
    if isinstance(content, dict) and "conversations" in content:
        return from_json(ConversationsRef, content, path)
    return from_json(DatasetRef, content, path)


def store_datasets(run: Path, datasets: Mapping[str, TrainingData]) -> dict[str, Ref]:
    """Store datasets in a run's folder, and return the references to them.

    Parameters
    ----------
    run : Path
    datasets : mapping of str to TrainingData
        By name, such as ``"train"`` and ``"validation"``: parts of one token file are stored as one.

    Raises
    ------
    CheckpointError
        If a token file has been cut short since it was opened.
    OSError
        If they cannot be stored: the message says how many bytes are needed.
    """
    (run / FOLDER).mkdir(exist_ok=True)
    return {name: _store(run, name, dataset) for name, dataset in datasets.items()}


def open_datasets(run: Path, refs: Mapping[str, Ref], tokenizer: Tokenizer) -> dict[str, TrainingData]:
    """Open the datasets of a run; each token file is verified once.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, or has fewer ids than a reference says.
    """
    files: dict[str, TokenFile] = {}
    datasets: dict[str, TrainingData] = {}
    for name, ref in refs.items():
        if isinstance(ref, ConversationsRef):
            datasets[name] = _open_conversations(run / FOLDER / ref.conversations, ref, tokenizer)
            continue
        if ref.path not in files:
            files[ref.path] = open_tokens(run / ref.path, tokenizer)
        whole = TokenDataset.of_file(files[ref.path], tokenizer)
        if not 0 <= ref.start < ref.stop <= len(whole):
            raise CheckpointError(run / ref.path, f"must hold tokens {ref.start} to {ref.stop}, and holds {len(whole)}")
        datasets[name] = whole.part(ref.start, ref.stop)
    return datasets


def _open_conversations(path: Path, ref: ConversationsRef, tokenizer: Tokenizer) -> TrainingData:
    from axone.llm.data.conversations import Conversations  # not before they are used

    if sha256(path) != ref.sha256:
        raise CheckpointError(path, "is damaged: its SHA-256 sum is not that of the run")
    return Conversations.open(path, tokenizer)


def _store(run: Path, name: str, dataset: TrainingData) -> Ref:
    """Link a dataset's token file into a run; write the dataset if that is not possible."""
    if not isinstance(dataset, TokenDataset):
        path = run / FOLDER / f"{name}.safetensors"
        dataset.write(path)
        return ConversationsRef(path.name, sha256(path))
    file = dataset.file
    if file is not None:
        # Named by their content: two files of one name in different folders stay two, and two parts of one file share it.
        named = f"{FOLDER}/tokens-{file.metadata.sha256[:16]}.bin"
        if (run / named).exists() or file.link(run / named):
            return DatasetRef(named, dataset.start, dataset.start + len(dataset))
        warn_caller(
            f"{file.path} cannot be linked into the run, which is on another disk: copying "
            f"{dataset.tokens.nbytes:,} bytes of {name} data"
        )
    copied = f"{FOLDER}/{name}.bin"
    dataset.write(run / copied)
    return DatasetRef(copied, 0, len(dataset))
