"""Conversations: chat data as token ids with loss masks, and batches of sequences of different lengths.

The loss counts the assistant's tokens alone. No conversation attends to another: in a padded batch each has a row of its
own, and in a packed batch a mask keeps those of one row apart.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.llm.chat.template import ChatTemplate
from axone.llm.data.encoding import encode_record, learned_mask
from axone.llm.data.packing import first_fit, shared_length
from axone.llm.data.records import Dialogue, read_records
from axone.llm.data.sampler import SamplingMode
from axone.llm.data.training_data import IGNORED, MaskedBatch
from axone.llm.errors import ChatTemplateError, CheckpointError, DataError
from axone.llm.storage.safetensors import read_arrays, write_arrays
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

_WINDOW = 4  # batches whose conversations are sorted by length together
_JITTER = 0.1  # of the lengths in sorting: otherwise a small data set has the same batches in each epoch
_DTYPES = {"ids": "int32", "trained": "bool", "starts": "int64"}


class Conversations:
    """Conversations as token ids, each with the mask of the tokens that are learned. `from_jsonl` makes them.

    Parameters
    ----------
    ids : ndarray of int32, shape (N,)
        All conversations, one after the other.
    trained : ndarray of bool, shape (N,)
        Whether a token is learned.
    starts : ndarray of int64, shape (M + 1,)
        Where each conversation begins, and the end of the last.
    tokenizer : Tokenizer
    num_cut, num_left_out : int, default 0
        Conversations that were cut at a turn boundary to fit, and those of which no answer fits.
    sources : ndarray of int64, shape (M,), optional
        The conversation of the file that each comes from, for `split`; by default its own number.

    Attributes
    ----------
    ids, trained, starts, tokenizer, num_cut, num_left_out
        As given.
    """

    def __init__(
        self,
        ids: NDArray[np.int32],
        trained: NDArray[np.bool_],
        starts: NDArray[np.int64],
        tokenizer: Tokenizer,
        *,
        num_cut: int = 0,
        num_left_out: int = 0,
        sources: NDArray[np.int64] | None = None,
    ) -> None:
        self.ids, self.trained, self.starts = ids, trained, starts
        self.tokenizer = tokenizer
        self.num_cut, self.num_left_out = num_cut, num_left_out
        self._sources = np.arange(len(starts) - 1) if sources is None else sources
        self.lengths: NDArray[np.int64] = np.diff(starts) - 1  # inputs: the last token is a target alone
        counts = np.concatenate([[0], np.cumsum(trained)])
        first = np.minimum(starts[:-1] + 1, starts[1:])  # the first token is never a target
        self._targets: NDArray[np.int64] = counts[starts[1:]] - counts[first]

    @classmethod
    def from_jsonl(
        cls,
        path: str | os.PathLike[str],
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        context_length: int | None = None,
    ) -> Conversations:
        """Read chat data: JSON lines with messages, with prompt and completion, or with text, or a folder of texts.

        Of messages, the assistant's texts and turn ends are learned. Where a template renders a turn otherwise once others
        follow, as those that drop earlier thoughts do, each answer is a sequence of its own after the turns as the model
        then reads them. A prompt and its completion are the turns of a user and
        of the assistant, or plain text if there is no template. Of a text, everything is learned.

        Parameters
        ----------
        path : path
        tokenizer : Tokenizer
            That of the model.
        template : ChatTemplate or None
            That of the model.
        context_length : int, optional
            The most tokens of a sequence. A longer conversation is cut after an answer, and left out if none fits; a longer
            text becomes several sequences.

        Returns
        -------
        Conversations

        Raises
        ------
        DataError
            If a line is damaged, or the template cannot render it: the message names the line.
        """
        longest = None if context_length is None else context_length + 1
        parts: list[tuple[list[int], list[bool]]] = []
        groups: list[int] = []
        num_cut = num_left_out = 0
        for place, record in read_records(Path(path)):
            try:
                sequences, is_cut = encode_record(record, tokenizer, template, longest)
            except (ChatTemplateError, ValueError) as error:
                raise DataError(f"{place}: {error}") from error
            num_cut += is_cut and len(sequences) > 0
            num_left_out += is_cut and not sequences
            parts += [(turns.ids, learned_mask(turns)) for turns in sequences]
            group = groups[-1] + 1 if groups else 0
            apart = not isinstance(record, Dialogue)  # the sequences of a text are held out one by one
            groups += [group + apart * number for number in range(len(sequences))]
        if not parts:
            within = "" if context_length is None else f" that fits into {context_length} tokens"
            raise DataError(f"{path}: has no conversation with an answer{within}: add texts or conversations")
        ids = np.concatenate([np.asarray(each, np.int32) for each, _ in parts])
        trained = np.concatenate([np.asarray(each, np.bool_) for _, each in parts])
        starts = np.cumsum([0, *(len(each) for each, _ in parts)])
        sources = np.array(groups)
        return cls(ids, trained, starts, tokenizer, num_cut=num_cut, num_left_out=num_left_out, sources=sources)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_targets(self) -> int:
        """The number of tokens that are learned."""
        return int(self._targets.sum())

    @functools.cached_property
    def num_bytes(self) -> int:
        """The length of the learned text, in bytes of UTF-8."""
        cuts = itertools.pairwise(self.starts.tolist())
        learned = (self.ids[start + 1 : stop][self.trained[start + 1 : stop]].tolist() for start, stop in cuts)
        return max(sum(len(self.tokenizer.decode(ids).encode()) for ids in learned), 1)

    def pieces(self, index: int) -> Iterator[tuple[str, bool]]:
        """Yield the text of a conversation in pieces, and whether each is learned.

        Parameters
        ----------
        index : int
        """
        part = slice(self.starts[index], self.starts[index + 1])
        ids, trained = self.ids[part], self.trained[part]
        cuts = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(ids)]
        for start, stop in itertools.pairwise(cuts):
            if start < stop:
                yield self.tokenizer.decode(ids[start:stop].tolist()), bool(trained[start])

    def select(self, indices: Sequence[int] | Ids) -> Conversations:
        """Return some of the conversations, in a given order."""
        spans = [slice(self.starts[index], self.starts[index + 1]) for index in indices]
        starts = np.cumsum([0, *(span.stop - span.start for span in spans)])
        ids, trained = (np.concatenate([array[span] for span in spans]) for array in (self.ids, self.trained))
        return Conversations(ids, trained, starts, self.tokenizer, sources=self._sources[np.asarray(indices)])

    def split(self, validation: float = 0.1, *, seed: int = 0) -> tuple[Conversations, Conversations]:
        """Hold out random conversations.

        Parameters
        ----------
        validation : float, default 0.1
            The fraction held out, in (0, 1): at least one conversation.
        seed : int, default 0

        Returns
        -------
        train, validation : Conversations

        Raises
        ------
        ValueError
            If the fraction is out of its range, or there is a single conversation.
        """
        if not 0 < validation < 1:
            raise ValueError(f"validation ({validation}) must be in (0, 1)")
        sources = np.unique(self._sources)
        count = min(max(round(len(sources) * validation), 1), len(sources) - 1)
        if count < 1:
            raise ValueError("a split needs two conversations, and there is one: add conversations")
        order = np.random.default_rng((seed, len(sources))).permutation(len(sources))
        held_out = np.isin(self._sources, sources[order[:count]])
        return self.select(np.flatnonzero(~held_out)), self.select(np.flatnonzero(held_out))

    def require(self, context_length: int) -> None:
        """Check that no conversation is longer than the context.

        Raises
        ------
        ValueError
            If one is.
        """
        longest = int(self.lengths.max())
        if longest > context_length:
            raise ValueError(
                f"context_length ({context_length}) must be at least the length of the longest conversation ({longest}): "
                "read the data with this context_length"
            )

    def content_sum(self) -> str:
        """Return a SHA-256 sum of ids, masks and cuts."""
        parts = self.ids.astype("<u4"), self.trained.astype("?"), self.starts.astype("<u8")
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def sequence_starts(self, context_length: int, limit: int | None = None) -> Ids:  # noqa: ARG002 - as the protocol
        """Return the numbers of all conversations, or of `limit` ones, evenly spread."""
        count = len(self)
        return np.arange(count) if limit is None or limit >= count else np.arange(limit) * count // limit

    def heaviest(self, batch_size: int, context_length: int) -> Ids:  # noqa: ARG002 - as the protocol
        """Return the numbers of the longest conversations of one batch."""
        return np.argsort(-self.lengths, kind="stable")[:batch_size]

    def count_targets(self, starts: Ids, context_length: int) -> int:  # noqa: ARG002 - as the protocol
        """Return the number of tokens that are learned in some conversations."""
        return int(self._targets[starts].sum())

    def targets_of_batches(self, seed: int, numbers: range, batch_size: int, context_length: int) -> int:
        """Return the number of tokens that are learned in several batches."""
        batches = (self._batch(seed, number, batch_size) for number in numbers)
        return sum(self.count_targets(batch, context_length) for batch in batches)

    def tokens_per_batch(self, batch_size: int, context_length: int) -> int:  # noqa: ARG002 - as the protocol
        """Return the mean number of tokens of a batch."""
        return max(round(float(self.lengths.mean()) * min(batch_size, len(self))), 1)

    def deal(
        self,
        seed: int,
        number: int,
        batch_size: int,
        context_length: int,  # noqa: ARG002 - as the protocol
        sampling: SamplingMode,  # noqa: ARG002 - always in epochs
        count: int,
    ) -> list[Ids]:
        """Return the conversations of a batch in shards of about equal work, a function of the arguments alone.

        Each conversation comes once per epoch, in an order that is shuffled for each.
        """
        batch = self._batch(seed, number, batch_size)
        ordered = batch[np.argsort(-self.lengths[batch], kind="stable")]
        return [ordered[shard::count] for shard in range(count)]

    @functools.lru_cache(maxsize=4)  # noqa: B019 - data lives as long as its training
    def is_packed(self, batch_size: int) -> bool:
        """Return whether packing several conversations into a row wastes fewer positions than sorting them by length."""
        sorted_batches = self._batches(0, 0, batch_size, by_length=True)
        mixed_batches = self._batches(0, 0, batch_size, by_length=False)
        padded = sum(len(batch) * int(self.lengths[batch].max()) for batch in sorted_batches)
        packed = sum(len(first_fit(self.lengths[batch])) * int(self.lengths[batch].max()) for batch in mixed_batches)
        return packed < padded

    def _batch(self, seed: int, number: int, batch_size: int) -> Ids:
        epoch, place = divmod(number, -(-len(self) // batch_size))
        return self._epoch(seed, epoch, batch_size)[place]

    @functools.lru_cache(maxsize=2)  # noqa: B019 - as above
    def _epoch(self, seed: int, epoch: int, batch_size: int) -> list[Ids]:
        return self._batches(seed, epoch, batch_size, by_length=not self.is_packed(batch_size))

    def _batches(self, seed: int, epoch: int, batch_size: int, *, by_length: bool) -> list[Ids]:
        """Return the batches of an epoch: random ones, or of conversations of similar length, in random order."""
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self))
        if not by_length:
            return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        keys = self.lengths[order] * rng.uniform(1 - _JITTER, 1 + _JITTER, len(order))
        window = _WINDOW * batch_size
        for first in range(0, len(order), window):
            part = slice(first, first + window)
            order[part] = order[part][np.argsort(keys[part], kind="stable")]
        batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        return [batches[place] for place in rng.permutation(len(batches))]

    def read(self, starts: Ids, context_length: int) -> MaskedBatch:  # noqa: ARG002 - as the protocol
        """Return the conversations of some numbers: each in a row of its own, or packed if that takes fewer rows.

        The ids with which all of them begin, such as a system message, are the prefix of the batch.

        Parameters
        ----------
        starts : ndarray of int, shape (B,)
            Numbers of conversations.
        context_length : int

        Returns
        -------
        MaskedBatch
        """
        shared = shared_length(self.ids, self.trained, self.starts[starts], self.lengths[starts])
        prefix = self.ids[self.starts[starts[0]] :][:shared].astype(np.int64) if shared else None
        begins, lengths = self.starts[starts] + shared, self.lengths[starts] - shared
        rows = first_fit(lengths)
        T, several = int(lengths.max(initial=1)), len(rows) < len(starts)
        inputs = np.zeros((len(rows), T), np.int64)
        targets = np.full((len(rows), T), IGNORED, np.int64)
        segments, positions = np.full((len(rows), T), -1), np.zeros((len(rows), T), np.int64)
        for row, members in enumerate(rows):
            first = 0
            for number, member in enumerate(members):
                start, length = int(begins[member]), int(lengths[member])
                place = slice(first, first + length)
                inputs[row, place] = self.ids[start : start + length]
                following = slice(start + 1, start + 1 + length)
                targets[row, place] = np.where(self.trained[following], self.ids[following], IGNORED)
                segments[row, place], positions[row, place] = number, np.arange(length)
                first += length
        if not several:
            return MaskedBatch(inputs, targets, prefix=prefix)
        mask = segments[:, None, :, None] == segments[:, None, None, :]
        return MaskedBatch(inputs, targets, mask, positions, prefix)

    def write(self, path: Path) -> None:
        """Write the ids and masks as a safetensors file, durably."""
        write_arrays(path, {"ids": self.ids, "trained": self.trained, "starts": self.starts})

    @classmethod
    def open(cls, path: Path, tokenizer: Tokenizer) -> Conversations:
        """Read the file that `write` made.

        Raises
        ------
        CheckpointError
            If it is missing or damaged, or of another tokenizer.
        """
        arrays: dict[str, NDArray[Any]] = read_arrays(path)
        if {name: array.dtype.name for name, array in arrays.items()} != _DTYPES:
            raise CheckpointError(path, "does not hold conversations")
        ids, trained, starts = (arrays[name] for name in _DTYPES)
        whole = ids.ndim == trained.ndim == starts.ndim == 1 and len(ids) == len(trained) > 0 and len(starts) > 1
        if not whole or starts[0] != 0 or starts[-1] != len(ids) or (np.diff(starts) < 2).any():
            raise CheckpointError(path, "does not hold conversations")
        if ids.min() < 0 or ids.max() >= tokenizer.vocab_size:
            raise CheckpointError(path, "holds ids that the tokenizer lacks")
        return cls(ids, trained, starts, tokenizer)
