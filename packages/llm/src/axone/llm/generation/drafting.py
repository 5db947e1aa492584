"""Drafts: guesses of the next tokens, which a model verifies together at little more than the cost of one.

A guess costs a lookup: the longest match of the last tokens in the text so far, or the counts of n-grams in a corpus.
No second model is needed. `speculation` decides how many guesses are worth verifying.

References
----------
.. [1] Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", https://arxiv.org/abs/2211.17192
.. [2] A. Saxena, "Prompt Lookup Decoding", https://github.com/apoorvumang/prompt-lookup-decoding
.. [3] T. Brants et al., "Large Language Models in Machine Translation" (stupid backoff), https://aclanthology.org/D07-1090
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_MATCHES = (1, 2, 3, 4, 6, 8, 12)  # tokens of the matches that are looked up
# Shares of the guesses that were right in answers of SmolLM2-135M to tasks grounded in their prompts: after a match of 1, 2,
# ... tokens, of which longer ones are treated alike, and after 1, 2, ... tokens since the alignment.
_RIGHT = (0.2, 0.5, 0.68, 0.78, 0.84, 0.87, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93, 0.94, 0.94, 0.95, 0.96)
_RIGHT_ALIGNED = (0.35, 0.6, 0.75, 0.8, 0.85)
_ALIGNED_FOR, _ALIGNED_WITHIN = 8, 8  # tokens of the text, and of its source, after the end of a copy
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, of the polynomial hash modulo 2^64
_MASK = (1 << 64) - 1
_CONFIDENCES = 5  # classes of the share that the most frequent token has after an n-gram


class Guess(NamedTuple):
    """A token, and the class of guesses to which it belongs: those of one class are right about equally often."""

    token: int
    kind: int


class Lookup(Protocol):
    """Guesses for one text."""

    @property
    def priors(self) -> Sequence[float]:
        """For each class of guesses, the share that is expected to be right."""

    def push(self, token: int) -> None:
        """Append a token to the text."""

    def guess(self, most: int) -> list[Guess]:
        """Return guesses of the next tokens, each under the condition that the earlier ones are right."""


class PromptLookup:
    """Guesses the tokens that followed the last occurrence of the longest match of the last tokens.

    A copy is often edited: a word is corrected, and the copy continues after it. Then a match of one token predicts little,
    because it occurs in many places. The text is aligned with the source again: the guess continues after the first
    occurrence of the last token behind the end of the copy.

    Parameters
    ----------
    prompt : sequence of int
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.priors = [*_RIGHT, *_RIGHT_ALIGNED]
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # from an n-gram to the position after its last occurrence
        self._source: int | None = None  # position of the token that the next one is expected to copy
        self._copied = 0  # tokens of the text that equal those before the source
        self._aligned = False  # whether the source was found by alignment
        self._place, self._since = 0, _ALIGNED_FOR + 1  # where the last copy ended, and tokens since then
        for token in prompt:
            self.push(token)

    def push(self, token: int) -> None:
        """Append a token to the text."""
        ids, end = self._ids, len(self._ids)
        self._follow(token)
        for length in _MATCHES:
            if length > end:
                break
            self._ends[tuple(ids[end - length :])] = end  # only now, so that the last tokens do not match themselves
        ids.append(token)

    def guess(self, most: int) -> list[Guess]:
        """Return the tokens after the longest match, or after the last token where a copy may continue."""
        ids = self._ids
        self._source, self._copied = self._longest_match()
        if self._copied <= 1 and self._since <= _ALIGNED_FOR:
            behind = ids[self._place : min(self._place + _ALIGNED_WITHIN, len(ids) - 1)]
            if ids[-1] in behind:
                source = self._source = self._place + behind.index(ids[-1]) + 1
                self._copied, self._aligned = 1, True
                aligned = enumerate(self._tokens_from(source, most))
                return [Guess(token, len(_RIGHT) + min(at, len(_RIGHT_ALIGNED) - 1)) for at, token in aligned]
        self._aligned = False
        if self._source is None:
            return []
        matched = enumerate(self._tokens_from(self._source, most), self._copied)
        return [Guess(token, min(length, len(_RIGHT)) - 1) for length, token in matched]

    def _tokens_from(self, source: int, most: int) -> list[int]:
        """Return the tokens from a position on: at the end of the text, those that are guessed follow."""
        tokens = self._ids[source : source + most]
        return (tokens * (most // len(tokens) + 1))[:most] if len(tokens) < most else tokens

    def _longest_match(self) -> tuple[int | None, int]:
        """Return the position after the longest match of the last tokens, and the length of the match."""
        ids = self._ids
        for length in reversed(_MATCHES):
            end = self._ends.get(tuple(ids[-length:])) if length <= len(ids) else None
            if end is not None:
                return end, length
        return None, 0

    def _follow(self, token: int) -> None:
        """Compare the next token with the source, and note where the copy ends."""
        self._since += 1
        if self._source is None:
            return
        if self._ids[self._source] == token:
            self._source += 1
            if self._copied > 1 or self._aligned:
                self._place, self._since = self._source, 0
            self._copied += 1
        else:
            if self._copied > 2:
                self._place, self._since = self._source, 0
            self._source = None


class HasTokens(Protocol):
    """A corpus such as `TokenDataset`."""

    tokens: NDArray[np.integer[Any]]


class Draft:
    """Counts of the n-grams of a corpus, which guess the next tokens of a text.

    A guess is the token that followed the last tokens most often, for the longest n-gram that occurred at least twice. It
    helps a model that writes texts like the corpus, such as one that was trained on it.

    Parameters
    ----------
    corpus : TokenDataset, ndarray of int or sequence of int
        Tokens of the model's tokenizer.
    max_order : int, default 8
        The most tokens of an n-gram before the guessed one.
    max_tokens : int, default 4194304
        Only the last tokens of a longer corpus are counted. A million takes about a second and 40 MB.

    Raises
    ------
    ValueError
        If the corpus is empty or has more than one axis, or an argument is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import Draft, LanguageModel, LanguageModelConfig, generate
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=1, num_heads=2, embed_dim=16
    ... )
    >>> model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    >>> draft = Draft(np.arange(1000) % 65)
    >>> with_draft, without = (
    ...     list(generate(model, [1, 2, 3], max_new_tokens=20, temperature=0, draft=each))
    ...     for each in (draft, None)
    ... )
    >>> with_draft == without
    True
    """

    def __init__(
        self,
        corpus: HasTokens | NDArray[np.integer[Any]] | Sequence[int],
        *,
        max_order: int = 8,
        max_tokens: int = 1 << 22,
    ) -> None:
        for name, value in (("max_order", max_order), ("max_tokens", max_tokens)):
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        tokens = np.asarray(getattr(corpus, "tokens", corpus)[-max_tokens:])  # type: ignore[index]  # an array or a list
        if tokens.ndim != 1 or not tokens.size or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"corpus (shape {tokens.shape}, {tokens.dtype}) must be one row of at least one token id: encode text first"
            )
        self.max_order = max_order
        self._tables = list(_count_ngrams(tokens.astype(np.uint64), max_order))

    def __repr__(self) -> str:
        """Return the numbers of tokens and n-grams."""
        return f"Draft({sum(map(len, self._tables)):,} n-grams of up to {self.max_order} tokens)"

    def lookup(self, prompt: Sequence[int]) -> CorpusLookup:
        """Return guesses for one text, which begins with a prompt."""
        return CorpusLookup(self._tables, prompt)


class _Table:
    """N-grams of one order, the token that followed each most often, and the class of this guess.

    Parameters
    ----------
    order : int
    keys : ndarray of uint64, shape (N,)
        Hashes in ascending order.
    tokens : ndarray of int, shape (N,)
    confidences : ndarray of float, shape (N,)
        The shares of these tokens among all that followed.
    """

    def __init__(
        self, order: int, mask: int, keys: NDArray[np.uint64], tokens: NDArray[np.int32], shares: NDArray[np.float64]
    ) -> None:
        self.mask = mask
        self._keys, self._tokens = keys, tokens
        self._kinds = ((order - 1) * _CONFIDENCES + shares * _CONFIDENCES).astype(np.int16)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: int) -> Guess | None:
        """Return the guess after an n-gram with a hash, or None if it is not in the table."""
        wanted = np.uint64(key & self.mask)
        at = int(self._keys.searchsorted(wanted))
        if at == len(self._keys) or self._keys[at] != wanted:
            return None
        return Guess(int(self._tokens[at]), int(self._kinds[at]))


def _count_ngrams(tokens: NDArray[np.uint64], max_order: int) -> list[_Table]:
    """Return a table for each order.

    A hash and the token after it share a number of 64 bits, so that one sort groups both.
    """
    low = np.uint64((1 << max(int(tokens.max()).bit_length(), 1)) - 1)
    mask = _MASK ^ int(low)
    hashes = np.zeros(len(tokens), np.uint64)  # of the n-gram that ends at each token
    factor, tables = _MULTIPLIER, []  # the first power spreads small numbers over the high bits, which are kept
    for order in range(1, max_order + 1):
        if order >= len(tokens):
            break
        hashes[order - 1 :] += (tokens[: len(tokens) - order + 1] + np.uint64(1)) * np.uint64(factor)
        factor = factor * _MULTIPLIER & _MASK
        pairs = (hashes[order - 1 : -1] & np.uint64(mask)) | tokens[order:]
        pairs.sort()
        first = np.flatnonzero(np.r_[True, pairs[1:] != pairs[:-1]])  # of each kind of pair
        counts, pairs = np.diff(np.r_[first, len(pairs)]), pairs[first]
        keys = pairs & np.uint64(mask)
        group = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])  # the first pair of each n-gram
        totals, largest = np.add.reduceat(counts, group), np.maximum.reduceat(counts, group)
        sizes = np.diff(np.r_[group, len(keys)])
        candidates = np.flatnonzero(counts == np.repeat(largest, sizes))
        owners = np.repeat(np.arange(len(group)), sizes)[candidates]
        best = candidates[np.r_[True, owners[1:] != owners[:-1]]]  # the first of those that followed equally often
        kept = np.flatnonzero(totals >= (2 if order > 1 else 1))
        tables.append(
            _Table(
                order,
                mask,
                keys[group[kept]],
                (pairs[best[kept]] & low).astype(np.int32),
                largest[kept] / (totals[kept] + 1),
            )
        )
    return tables


class CorpusLookup:
    """Guesses the token that followed the last tokens most often in a corpus.

    Parameters
    ----------
    tables : sequence of _Table
        For 1 to N tokens.
    prompt : sequence of int
    """

    def __init__(self, tables: Sequence[_Table], prompt: Sequence[int]) -> None:
        self._tables = tables
        self._ids = list(prompt[-len(tables) :]) if tables else []
        self.priors = [(confidence + 0.5) / _CONFIDENCES for confidence in range(_CONFIDENCES)] * len(tables)

    def push(self, token: int) -> None:
        """Append a token to the text."""
        self._ids.append(token)
        if len(self._ids) > len(self._tables):
            del self._ids[0]

    def guess(self, most: int) -> list[Guess]:
        """Return the most frequent token after the last ones, then after these and it, and so on."""
        ids, guesses = list(self._ids), list[Guess]()
        order = len(ids)
        while len(guesses) < most:
            guess, order = self._after(ids, order)
            if guess is None:
                break
            guesses.append(guess)
            ids.append(guess.token)
            order = min(order + 1, len(self._tables))  # a longer n-gram is no more frequent than its beginning
        return guesses

    def _after(self, ids: list[int], longest: int) -> tuple[Guess | None, int]:
        """Return the guess after the longest n-gram that is known, and its order."""
        hashes, key, factor = [], 0, _MULTIPLIER
        for token in reversed(ids[-longest:] if longest else ()):
            key = key + (token + 1) * factor & _MASK
            factor = factor * _MULTIPLIER & _MASK
            hashes.append(key)
        for order in range(len(hashes), 0, -1):
            guess = self._tables[order - 1].find(hashes[order - 1])
            if guess is not None:
                return guess, order
        return None, 0
