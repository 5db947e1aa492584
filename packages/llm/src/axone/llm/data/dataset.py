"""Token datasets: the ids of a text, and batches of sequences as functions of seed and number.

A run that is resumed draws the same batches, because nothing else determines them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axone.llm.data import token_file
from axone.llm.data.sampler import SamplingMode, batch_starts, even_starts
from axone.llm.data.token_file import TokenFile
from axone.llm.data.training_data import Batch
from axone.llm.errors import CheckpointError
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

_DECODED_AT_ONCE = 1 << 20  # ids
_LONGEST_PATH = 4096  # characters: no longer text can be the name of a file


class TokenDataset:
    """The ids of a text, in memory or in a memory-mapped file.

    Parameters
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
        The one that made them.
    ends : ndarray of int, shape (D,), optional
        End of each document; None for a single one.

    Attributes
    ----------
    tokens : ndarray of int, shape (N,)
    tokenizer : Tokenizer
    start : int
        Position of the first id in the file.
    """

    def __init__(self, tokens: Ids, tokenizer: Tokenizer, *, ends: NDArray[np.integer[Any]] | None = None) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.file: TokenFile | None = None
        self.start = 0
        self._ends = np.asarray([len(tokens)]) if ends is None else ends

    @classmethod
    def from_text(cls, text: str, tokenizer: Tokenizer, path: str | PathLike[str] | None = None) -> TokenDataset:
        """Encode a text: `from_texts` of a single document.

        Parameters
        ----------
        text : str
            The text itself; `read_text` reads it from a file.
        tokenizer : Tokenizer
        path : path, optional
            The token file, as in `from_texts`.

        Returns
        -------
        TokenDataset

        Raises
        ------
        TypeError
            If the text is not a string.
        ValueError
            If the text is empty or names a file, or the tokenizer cannot encode it.
        CheckpointError
            If a file at `path` is not part of a token file.
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
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, not {type(text).__name__}: read a file with read_text(path)")
        if len(text) < _LONGEST_PATH and "\0" not in text and os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises for a long name
            raise ValueError(f"text ({text!r}) is the name of a file: read it with read_text({text!r})")
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
            The documents. With a `path` they are iterated twice, and are never in memory together.
        tokenizer : Tokenizer
        path : path, optional
            Write the ids to this file and memory-map it. If it is there and text and tokenizer are unchanged, it is used
            as it is. ``NAME.json`` and ``NAME.documents`` beside it belong to it.
        separator : sequence of int, optional
            The ids between two documents, by default those of a line feed.

        Returns
        -------
        TokenDataset

        Raises
        ------
        ValueError
            If there is no text, or the tokenizer cannot encode it.
        TypeError
            If `texts` is a single string, or an iterator although there is a `path`.
        CheckpointError
            If a file at `path` is not part of a token file.
        OSError
            If the file cannot be written.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be several documents, not one string: use from_text, or pass a list")
        if path is None:
            documents = list(token_file.encoded(texts, tokenizer, separator))
            if not any(map(len, documents)):
                raise ValueError("text (0 tokens) must not be empty")
            return cls(np.concatenate(documents), tokenizer, ends=np.cumsum([len(ids) for ids in documents]))
        if isinstance(texts, Iterator):
            raise TypeError("texts for a token file are iterated twice, and an iterator ends: pass a list")
        path = Path(path).absolute()
        text = token_file.text_sum(texts, separator)
        try:
            file = token_file.open_tokens(path, tokenizer, text=text)
        except CheckpointError:
            documents_of = token_file.encoded(texts, tokenizer, separator)
            file = token_file.write_tokens(path, documents_of, tokenizer, text)
        return cls.of_file(file, tokenizer)

    @classmethod
    def open(cls, path: str | PathLike[str], tokenizer: Tokenizer) -> TokenDataset:
        """Open a token file that `from_texts` or `write` made.

        Parameters
        ----------
        path : path
        tokenizer : Tokenizer
            The one that made the ids.

        Returns
        -------
        TokenDataset

        Raises
        ------
        CheckpointError
            If it is not there, damaged, or of another tokenizer.
        """
        return cls.of_file(token_file.open_tokens(Path(path).absolute(), tokenizer), tokenizer)

    @classmethod
    def of_file(cls, file: TokenFile, tokenizer: Tokenizer) -> TokenDataset:
        """Return the ids of a token file that is open, with the tokenizer that made them."""
        dataset = cls(file.tokens, tokenizer, ends=file.ends)
        dataset.file = file
        return dataset

    @property
    def path(self) -> Path | None:
        """The token file, if the ids are in one."""
        return None if self.file is None else self.file.path

    def write(self, path: str | PathLike[str]) -> TokenDataset:
        """Write the ids to a token file, durably.

        Parameters
        ----------
        path : path

        Returns
        -------
        TokenDataset
            The same ids, memory-mapped.

        Raises
        ------
        CheckpointError
            If a file at `path` is not part of a token file.
        OSError
            If the file cannot be written.
        """
        self._require_whole()
        starts = [0, *self._ends[:-1].tolist()]
        documents = (self.tokens[start:stop] for start, stop in zip(starts, self._ends.tolist()))
        file = token_file.write_tokens(Path(path).absolute(), documents, self.tokenizer, "", tokens=len(self))
        return self.of_file(file, self.tokenizer)

    def split(
        self, validation: float = 0.1, *, by: Literal["token", "document"] = "token"
    ) -> tuple[TokenDataset, TokenDataset]:
        """Split the ids: the first part for training, the last for validation.

        Parameters
        ----------
        validation : float, default 0.1
            The fraction of the ids held out, in (0, 1).
        by : {"token", "document"}
            Whether to cut anywhere, or between the two documents where that is nearest to the fraction.

        Returns
        -------
        train, validation : TokenDataset

        Raises
        ------
        ValueError
            If the fraction is out of its range, or a single document is to be split by documents.
        """
        if not 0 < validation < 1:
            raise ValueError(f"validation ({validation}) must be in (0, 1)")
        cut = int(len(self) * (1 - validation))
        if by == "document":
            between = self._ends[:-1]
            if not len(between):
                raise ValueError("a split by documents needs two documents, and there is one: split by tokens")
            cut = int(between[np.abs(between - cut).argmin()])
        return self.part(0, cut), self.part(cut, len(self))

    def part(self, start: int, stop: int) -> TokenDataset:
        """Return the ids of a range of positions.

        Parameters
        ----------
        start, stop : int

        Returns
        -------
        TokenDataset
        """
        ends = self._ends[(self._ends > start) & (self._ends < stop)] - start
        part = TokenDataset(self.tokens[start:stop], self.tokenizer, ends=np.append(ends, stop - start))
        part.file, part.start = self.file, self.start + start
        return part

    def __repr__(self) -> str:
        documents = f"{self.num_documents:,} document{'s' * (self.num_documents > 1)}"
        return f"TokenDataset({len(self):,} tokens, {documents}, {self.tokenizer!r})"

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_documents(self) -> int:
        """The number of documents, including those of which only a part is here."""
        return len(self._ends)

    @functools.cached_property
    def num_bytes(self) -> int:
        """The length of the decoded text, in bytes of UTF-8."""
        self._require_whole()
        decoder = self.tokenizer.stream_decoder()
        starts = range(0, len(self), _DECODED_AT_ONCE)
        parts = (decoder.push(self.tokens[start : start + _DECODED_AT_ONCE].tolist()) for start in starts)
        return sum(len(part.encode()) for part in parts) + len(decoder.flush().encode())

    def batch(
        self, seed: int, number: int, batch_size: int, context_length: int, *, sampling: SamplingMode = "random"
    ) -> Batch:
        """Return a batch of sequences, a function of the arguments alone.

        Parameters
        ----------
        seed, number : int
            Each batch of a training has its own number, from 0.
        batch_size, context_length : int
            B and T.
        sampling : {"random", "epoch"}
            Sequences from random positions, or consecutive ones, shuffled in each epoch, each once per epoch.

        Returns
        -------
        inputs, targets : ndarray of int, shape (B, T)

        Raises
        ------
        ValueError
            If there are not enough ids for one sequence.
        CheckpointError
            If the token file has been cut short since it was opened.
        """
        self.require(context_length)
        return self.read(batch_starts(seed, number, batch_size, context_length, len(self), sampling), context_length)

    def deal(
        self, seed: int, number: int, batch_size: int, context_length: int, sampling: SamplingMode, count: int
    ) -> list[Ids]:
        """Return the starts of a batch's sequences, a function of the arguments alone, in `count` consecutive shards."""
        drawn = batch_starts(seed, number, batch_size, context_length, len(self), sampling)
        return [drawn[batch_size * i // count : batch_size * (i + 1) // count] for i in range(count)]

    def heaviest(self, batch_size: int, context_length: int) -> Ids:
        """Return the starts of a batch: all take the same memory."""
        return batch_starts(0, 0, batch_size, context_length, len(self), "random")

    @property
    def num_targets(self) -> int:
        """The number of ids."""
        return len(self)

    def count_targets(self, starts: Ids, context_length: int) -> int:
        """Return the number of targets of some sequences."""
        return len(starts) * context_length

    def targets_of_batches(self, seed: int, numbers: range, batch_size: int, context_length: int) -> int:  # noqa: ARG002 - as the protocol
        """Return the number of targets of several batches."""
        return (numbers.stop - numbers.start) * batch_size * context_length

    def tokens_per_batch(self, batch_size: int, context_length: int) -> int:
        """Return the number of tokens of a batch."""
        return batch_size * context_length

    def content_sum(self) -> str:
        """Return a SHA-256 sum of the ids."""
        self._require_whole()
        return token_file.ids_sum(self.tokens)

    def sequence_starts(self, context_length: int, limit: int | None = None) -> Ids:
        """Return the start of every consecutive sequence.

        Parameters
        ----------
        context_length : int
            T.
        limit : int, optional
            The largest number of sequences, evenly spread.

        Returns
        -------
        ndarray of int, shape (N,)
        """
        self.require(context_length)
        return even_starts(context_length, len(self), limit)

    def read(self, starts: Ids, context_length: int) -> Batch:
        """Return the sequences at given starts.

        Parameters
        ----------
        starts : ndarray of int, shape (B,)
        context_length : int
            T.

        Returns
        -------
        inputs, targets : ndarray of int, shape (B, T)

        Raises
        ------
        CheckpointError
            If the token file has been cut short since it was opened.
        """
        self._require_whole()
        both = self.tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)  # (B, T + 1)
        return both[:, :-1], both[:, 1:]

    def require(self, context_length: int) -> None:
        """Check that there is a sequence of `context_length` ids and the one that follows.

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
                f"dataset ({len(self)} tokens) must be longer than context_length ({context_length}): use a longer text or "
                f"a shorter context"
            )

    def _require_whole(self) -> None:
        if self.file is not None:
            self.file.require_whole()
