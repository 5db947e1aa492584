"""Protocols of generation: a model as generation uses it, which a test can fake."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

from axone.llm.config import LanguageModelConfig
from axone.llm.types import Ids, Logits
from axone.nn import KVCache


class Decode(Protocol):
    """A function that reads tokens into KV caches; `Decoder` is one."""

    def __call__(
        self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None, *, last_only: bool = True
    ) -> Logits:
        """Return the logits after the last token of each sequence, shape (B, V).

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache
            They hold the earlier columns and receive these.
        starts : ndarray of int, shape (B,), optional
            The column where each sequence begins, by default the first: earlier ones are padding.
        last_only : bool, default True
            False returns the logits after each token, shape (B, T, V). Only drafts need it.
        """


class GenerativeModel(Protocol):
    """A model as generation uses it; `LanguageModel` is one."""

    @property
    def config(self) -> LanguageModelConfig:
        """The configuration: generation reads `vocab_size` and `context_length`."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a text."""

    def make_caches(self, batch: int, length: int) -> list[KVCache]:
        """Return empty caches for a number of sequences, of a number of positions each."""

    def decoder(self, *, workers: int | None = None) -> contextlib.AbstractContextManager[Decode]:
        """Return a context manager that reads tokens; it may fork up to `workers` processes until it ends."""
