"""TokenDataset: a text as tokens, and the batches that training and evaluation read from it.

A batch is a function of seed and step alone, so that nothing has to be remembered to resume in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.files import read_json, write_file, write_json
from axone.tokenizer import Tokenizer

Ids: TypeAlias = NDArray[np.integer[Any]]
Batch: TypeAlias = tuple[Ids, Ids]
"""Inputs and targets, each (B, T): a target is the token that follows."""


class TokenDataset:
    """The tokens of a text, in memory or in a file.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
        The one that made them.
    path : path, optional
        The file that holds them.

    Attributes
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
    path : Path or None
    start : int
        Where this part begins in the file, in tokens.
    """

    def __init__(
        self, tokens: Ids, tokenizer: Tokenizer, *, path: str | PathLike[str] | None = None, start: int = 0
    ) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.path = None if path is None else Path(path)
        self.start = start

    @classmethod
    def from_text(cls, text: str, tokenizer: Tokenizer, path: str | PathLike[str] | None = None) -> TokenDataset:
        """Encode a text.

        Parameters
        ----------
        text : str
        tokenizer : Tokenizer
        path : path, optional
            Write the tokens to this file, 16 or 32 bits each, and read them from there when needed. Beside it a
            ``.json`` file says what it holds.

        Returns
        -------
        TokenDataset
        """
        dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
        tokens = tokenizer.encode_to_array(text).astype(dtype, copy=False)
        dataset = cls(tokens, tokenizer)
        return dataset if path is None else dataset.write(path)

    def write(self, path: str | PathLike[str]) -> TokenDataset:
        """Write the tokens to a file, durably, and return the dataset that reads them from there."""
        path = Path(path)
        write_file(path, self.tokens.tobytes())
        write_json(path.with_suffix(".json"), {"dtype": self.tokens.dtype.name, "tokens": len(self)})
        return self.open(path, self.tokenizer)

    @classmethod
    def open(cls, path: str | PathLike[str], tokenizer: Tokenizer) -> TokenDataset:
        """Open a token file.

        Raises
        ------
        CheckpointError
            If it is not there, or not as long as the file beside it says.
        """
        path = Path(path)
        meta = read_json(path.with_suffix(".json"))
        try:
            tokens = np.memmap(path, dtype=np.dtype(meta["dtype"]), mode="r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(path, f"is not a token file ({error})") from error
        if len(tokens) != meta.get("tokens"):
            raise CheckpointError(path, f"must hold {meta.get('tokens')} tokens, and holds {len(tokens)}")
        return cls(tokens, tokenizer, path=path)

    def split(self, validation: float = 0.1) -> tuple[TokenDataset, TokenDataset]:
        """Return the first part for training and the last for validation.

        Parameters
        ----------
        validation : float, default 0.1
            The share of the tokens held out, in (0, 1).

        Returns
        -------
        train, validation : TokenDataset

        Raises
        ------
        ValueError
            If the share is out of its range.
        """
        if not 0 < validation < 1:
            raise ValueError(f"the share for validation must be in (0, 1), and is {validation}")
        return self.part(0, cut := int(len(self) * (1 - validation))), self.part(cut, len(self))

    def part(self, start: int, stop: int) -> TokenDataset:
        """Return the tokens from `start` to `stop`."""
        return TokenDataset(self.tokens[start:stop], self.tokenizer, path=self.path, start=self.start + start)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_bytes(self) -> int:
        """The length of the text behind the tokens, in bytes of UTF-8."""
        return len(self.tokenizer.decode(self.tokens.tolist()).encode())

    def batch(self, key: tuple[int, ...], batch_size: int, context_length: int) -> Batch:
        """Return random windows, a function of `key` alone.

        Parameters
        ----------
        key : tuple of int
            Such as (seed, step).
        batch_size, context_length : int
            B and T.

        Returns
        -------
        inputs, targets : ndarray of int, shape (B, T)

        Raises
        ------
        ValueError
            If there are not enough tokens for one window.
        """
        self.require(context_length)
        starts = np.random.default_rng(key).integers(0, len(self) - context_length, batch_size)
        return self._windows(starts, context_length)

    def whole_windows(self, batch_size: int, context_length: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the windows that follow each other without overlap, or `limit` of them, evenly spread.

        Parameters
        ----------
        batch_size, context_length : int
            B and T; the last batch may be smaller.
        limit : int, optional
            The most windows to yield.

        Yields
        ------
        inputs, targets : ndarray of int, shape (B, T)
        """
        self.require(context_length)
        count = (len(self) - 1) // context_length
        chosen = np.arange(count)
        if limit is not None and limit < count:
            chosen = np.arange(limit) * count // limit
        for first in range(0, len(chosen), batch_size):
            yield self._windows(chosen[first : first + batch_size] * context_length, context_length)

    def require(self, context_length: int) -> None:
        """Check that there is a window of `context_length` tokens and the one that follows.

        Raises
        ------
        ValueError
            If not.
        """
        if len(self) <= context_length:
            raise ValueError(
                f"the text must have more tokens than the context of {context_length}, and this part of it has "
                f"{len(self)}: give a longer text or a shorter context"
            )

    def _windows(self, starts: Ids, length: int) -> Batch:
        both = self.tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)  # (B, T + 1)
        return both[:, :-1], both[:, 1:]
