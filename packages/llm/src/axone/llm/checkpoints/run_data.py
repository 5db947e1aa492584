"""Training tokens of a run, for programs that read them again, such as drafts."""

from __future__ import annotations

from os import PathLike

from axone.llm.checkpoints.dataset_ref import open_datasets, read_ref
from axone.llm.checkpoints.run import Run
from axone.llm.checkpoints.run_format import OPTIONS
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import CheckpointError
from axone.tokenizer import Tokenizer


def training_tokens(path: str | PathLike[str], tokenizer: Tokenizer) -> TokenDataset:
    """Open the token file from which a run was trained.

    Parameters
    ----------
    path : path
        The folder of the run.
    tokenizer : Tokenizer
        That of the run.

    Returns
    -------
    TokenDataset

    Raises
    ------
    CheckpointError
        If the folder holds no run, its data is damaged, or it was trained on conversations.
    """
    run = Run(path)
    refs = run.options().get("data")
    if not isinstance(refs, dict) or "train" not in refs:
        raise CheckpointError(run.path, "names no training data: it was not made by this version")
    ref = read_ref(refs["train"], run.path / OPTIONS)
    dataset = open_datasets(run.path, {"train": ref}, tokenizer)["train"]
    if not isinstance(dataset, TokenDataset):
        raise CheckpointError(run.path, "was trained on conversations and holds no token file")
    return dataset
