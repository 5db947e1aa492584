"""TrainingData: all that a training needs of its data, whether tokens of a text or conversations."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.data.sampler import SamplingMode
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

Batch: TypeAlias = tuple[Ids, Ids]
"""Inputs and targets, each (B, T): a target is the id that follows its input."""

IGNORED = -100
"""The target of positions that have no loss."""


class MaskedBatch(NamedTuple):
    """Sequences of which some positions have no loss.

    Attributes
    ----------
    inputs : ndarray of int, shape (B, T)
    targets : ndarray of int, shape (B, T)
        `IGNORED` where there is no loss.
    mask : ndarray of bool, shape (B, 1, T, T), or None
        True where a position may attend to another, if a row holds several conversations.
    positions : ndarray of int, shape (B, T), or None
        Counted from the beginning of each conversation, or from the end of the prefix; None from that of the row.
    prefix : ndarray of int, shape (P,), or None
        Ids with which every conversation begins. `inputs` and `targets` hold what follows.
    """

    inputs: Ids
    targets: Ids
    mask: NDArray[np.bool_] | None = None
    positions: Ids | None = None
    prefix: Ids | None = None


class TrainingData(Protocol):
    """Sequences for training or evaluation, such as those of `TokenDataset` and `Conversations`.

    A sequence has an index, an integer: its first token, or the number of its conversation.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids."""

    @property
    def num_targets(self) -> int:
        """The number of tokens that are learned."""

    @property
    def num_bytes(self) -> int:
        """Their length as text, in bytes of UTF-8."""

    def require(self, context_length: int) -> None:
        """Raise a ValueError if there is no sequence, or one that is longer than the context."""

    def split(self, validation: float = 0.1) -> tuple[TrainingData, TrainingData]:
        """Return the data without a fraction that is held out, and that fraction."""

    def sequence_starts(self, context_length: int, limit: int | None = None) -> Ids:
        """Return the indices of all sequences, or of `limit` ones, evenly spread."""

    def heaviest(self, batch_size: int, context_length: int) -> Ids:
        """Return the indices of a batch that takes as much memory as any."""

    def deal(
        self, seed: int, number: int, batch_size: int, context_length: int, sampling: SamplingMode, count: int
    ) -> list[Ids]:
        """Return the indices of a batch, a function of the arguments alone, in `count` shards."""

    def read(self, starts: Ids, context_length: int) -> Batch | MaskedBatch:
        """Return the sequences of some indices."""

    def count_targets(self, starts: Ids, context_length: int) -> int:
        """Return the number of tokens that are learned in some sequences."""

    def targets_of_batches(self, seed: int, numbers: range, batch_size: int, context_length: int) -> int:
        """Return the number of tokens that are learned in several batches."""

    def content_sum(self) -> str:
        """Return a SHA-256 sum of the sequences, by which two machines compare their data."""

    def write(self, path: Path) -> object:
        """Write the ids to a file, durably."""

    def tokens_per_batch(self, batch_size: int, context_length: int) -> int:
        """Return the mean number of tokens of a batch."""
