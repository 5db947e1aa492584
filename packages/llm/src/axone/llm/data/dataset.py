"""TokenDataset: a text as tokens, and the windows that training and evaluation read from it.

A batch is a function of seed and number alone, so that nothing has to be remembered to resume in the same order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.data import token_file
from axone.llm.data.sampler import Order, batch_starts, even_starts
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

Batch: TypeAlias = tuple[Ids, Ids]
"""Inputs and targets, each (B, T): a target is the token that follows."""

_DECODED_AT_ONCE = 1 << 20  # tokens


class TokenDataset:
    """The tokens of a text, in memory or in a file.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
        The one that made them.
    ends : ndarray of int, shape (D,), optional
        Where each document ends; None for a single one.
    path : path, optional
        The file that holds them.
    start : int, default 0
        Where this part begins in the file, in tokens.

    Attributes
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
    path : Path or None
    start : int
    """

    def __init__(
        self,
        tokens: Ids,
        tokenizer: Tokenizer,
        *,
        ends: NDArray[np.integer[Any]] | None = None,
        path: str | PathLike[str] | None = None,
        start: int = 0,
    ) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.path = None if path is None else Path(path)
        self.start = start
        self._ends = np.asarray([len(tokens)]) if ends is None else ends

    @classmethod
    def from_text(cls, text: str, tokenizer: Tokenizer, path: str | PathLike[str] | None = None) -> TokenDataset:
        """Encode a text: `from_texts` of a single document.

        Parameters
        ----------
        text : str
        tokenizer : Tokenizer
        path : path, optional
            The token file, as in `from_texts`.

        Returns
        -------
        TokenDataset

        Raises
        ------
        ValueError
            If the text is empty, or the tokenizer does not know it.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> from axone.llm import TokenDataset
        >>> from axone.tokenizer import CharTokenizer
        >>> text = "to be or not to be"
        >>> dataset = TokenDataset.from_text(text, CharTokenizer.train(text))
        >>> len(dataset), dataset.num_bytes
        (18, 18)
        """
        return cls.from_texts([text], tokenizer, path)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        tokenizer: Tokenizer,
        path: str | PathLike[str] | None = None,
        *,
        separator: Sequence[int] | None = None,
    ) -> TokenDataset:
        """Encode documents.

        Parameters
        ----------
        texts : iterable of str
            The documents. With a `path` they are read twice, so it must be possible to go through them again; they are
            never in memory together.
        tokenizer : Tokenizer
        path : path, optional
            Write the tokens to this file and read them from there when needed. If it is there already and text and
            tokenizer are unchanged, it is used as it is.
        separator : sequence of int, optional
            The tokens between two documents, by default those of a new line.

        Returns
        -------
        TokenDataset

        Raises
        ------
        ValueError
            If there is no text, or the tokenizer does not know it.
        TypeError
            If texts for a file can be gone through only once.
        OSError
            If the file cannot be written.
        """
        if path is None:
            documents = list(token_file.encoded(texts, tokenizer, separator))
            if not any(map(len, documents)):
                raise ValueError("a dataset needs at least one token, and the text is empty")
            return cls(np.concatenate(documents), tokenizer, ends=np.cumsum([len(ids) for ids in documents]))
        if isinstance(texts, Iterator):
            raise TypeError(
                "texts for a token file are read twice: give a list, or another that can be gone through again"
            )
        path = Path(path)
        text = token_file.text_sum(texts, separator)
        if not token_file.holds(path, tokenizer, text):
            documents_of = token_file.encoded(texts, tokenizer, separator)
            token_file.write_tokens(path, documents_of, tokenizer, text)
        return cls.open(path, tokenizer)

    @classmethod
    def is_current(
        cls,
        path: str | PathLike[str],
        texts: Iterable[str],
        tokenizer: Tokenizer,
        *,
        separator: Sequence[int] | None = None,
    ) -> bool:
        """Tell whether a token file is whole and holds what `from_texts` would write there.

        Parameters
        ----------
        path : path
        texts, tokenizer, separator
            As in `from_texts`.

        Returns
        -------
        bool
        """
        return token_file.holds(Path(path), tokenizer, token_file.text_sum(texts, separator))

    @classmethod
    def open(cls, path: str | PathLike[str], tokenizer: Tokenizer) -> TokenDataset:
        """Open a token file that `from_texts` or `write` made.

        Parameters
        ----------
        path : path
        tokenizer : Tokenizer
            The one that made the tokens.

        Returns
        -------
        TokenDataset

        Raises
        ------
        CheckpointError
            If it is not there, damaged, or of another tokenizer.
        """
        tokens, ends = token_file.read_tokens(Path(path), tokenizer)
        return cls(tokens, tokenizer, ends=ends, path=path)

    def write(self, path: str | PathLike[str]) -> TokenDataset:
        """Write the tokens to a file, durably.

        Parameters
        ----------
        path : path

        Returns
        -------
        TokenDataset
            The same, read from there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        path = Path(path)
        starts = [0, *self._ends[:-1].tolist()]
        documents = (self.tokens[start:stop] for start, stop in zip(starts, self._ends.tolist()))
        token_file.write_tokens(path, documents, self.tokenizer, "", tokens=len(self))
        return self.open(path, self.tokenizer)

    def split(
        self, validation: float = 0.1, *, by: Literal["token", "document"] = "token"
    ) -> tuple[TokenDataset, TokenDataset]:
        """Return the first part for training and the last for validation.

        Parameters
        ----------
        validation : float, default 0.1
            The share of the tokens held out, in (0, 1).
        by : {"token", "document"}
            Where the cut may be: anywhere, or only between two documents, at the place nearest to the share.

        Returns
        -------
        train, validation : TokenDataset

        Raises
        ------
        ValueError
            If the share is out of its range, or there is only one document to be split by documents.
        """
        if not 0 < validation < 1:
            raise ValueError(f"the share for validation must be in (0, 1), and is {validation}")
        cut = int(len(self) * (1 - validation))
        if by == "document":
            between = self._ends[:-1]
            if not len(between):
                raise ValueError("a split by documents needs at least two, and there is one: split by tokens")
            cut = int(between[np.abs(between - cut).argmin()])
        return self.part(0, cut), self.part(cut, len(self))

    def part(self, start: int, stop: int) -> TokenDataset:
        """Return a part of the tokens.

        Parameters
        ----------
        start, stop : int
            Where it begins and ends.

        Returns
        -------
        TokenDataset
        """
        ends = self._ends[(self._ends > start) & (self._ends < stop)] - start
        return TokenDataset(
            self.tokens[start:stop],
            self.tokenizer,
            ends=np.append(ends, stop - start),
            path=self.path,
            start=self.start + start,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_documents(self) -> int:
        """How many documents there are, those included of which only a part is here."""
        return len(self._ends)

    @functools.cached_property
    def num_bytes(self) -> int:
        """The length of the text behind the tokens, in bytes of UTF-8."""
        decoder = self.tokenizer.stream_decoder()
        total = 0
        for start in range(0, len(self), _DECODED_AT_ONCE):
            total += len(decoder.push(self.tokens[start : start + _DECODED_AT_ONCE].tolist()).encode())
        return total + len(decoder.flush().encode())

    def batch(self, seed: int, number: int, batch_size: int, context_length: int, *, order: Order = "random") -> Batch:
        """Return windows, a function of the arguments alone.

        Parameters
        ----------
        seed, number : int
            Each batch of a training has its own number, from 0.
        batch_size, context_length : int
            B and T.
        order : {"random", "epoch"}
            Windows from anywhere; or those that follow each other without overlap, shuffled anew in each epoch, so
            that each epoch has every one of them exactly once.

        Returns
        -------
        inputs, targets : ndarray of int, shape (B, T)

        Raises
        ------
        ValueError
            If there are not enough tokens for one window.
        """
        self.require(context_length)
        return self.read(batch_starts(seed, number, batch_size, context_length, len(self), order), context_length)

    def window_starts(self, context_length: int, limit: int | None = None) -> Ids:
        """Return where the windows start that follow each other without overlap.

        Parameters
        ----------
        context_length : int
            T.
        limit : int, optional
            The most windows, evenly spread.

        Returns
        -------
        ndarray of int, shape (N,)
        """
        self.require(context_length)
        return even_starts(context_length, len(self), limit)

    def read(self, starts: Ids, context_length: int) -> Batch:
        """Return the windows that start at some places.

        Parameters
        ----------
        starts : ndarray of int, shape (B,)
        context_length : int
            T.

        Returns
        -------
        inputs, targets : ndarray of int, shape (B, T)
        """
        both = self.tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)  # (B, T + 1)
        return both[:, :-1], both[:, 1:]

    def require(self, context_length: int) -> None:
        """Check that there is a window of `context_length` tokens and the one that follows.

        Parameters
        ----------
        context_length : int
            T.

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
