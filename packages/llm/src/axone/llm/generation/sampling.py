"""Sampling: filters of the logits, in Hugging Face's order, and the draw of a token.

Each filter takes the scores of the remaining tokens and returns the indices of those that it keeps, in order. A filter
may get fifty thousand scores per token: none of them sorts scores that cannot matter, and each passes only the kept ones
to the next. Scores are logits divided by the temperature, shifted so that the largest is zero.

References
----------
.. [1] A. Holtzman et al., "The Curious Case of Neural Text Degeneration" (top-p), https://arxiv.org/abs/1904.09751
.. [2] N. S. Keskar et al., "CTRL" (repetition penalty), https://arxiv.org/abs/1909.05858
.. [3] N. N. Minh et al., "Turning Up the Heat: Min-p Sampling", https://arxiv.org/abs/2407.01082
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypedDict

import numpy as np

from axone.llm.storage.field_types import require_field_types
from axone.llm.types import Ids, Logits

_BLOCK = 256  # scores of which one is looked at first
_MANY = 4096  # scores: from here on blocks pay


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingConfig` as keyword arguments."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Options for the choice of the next token.

    Parameters
    ----------
    temperature : float, default 1.0
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Keep only the k most probable tokens, and those tied with the last of them.
    top_p : float, optional
        Keep only the most probable tokens that together have this probability, in (0, 1].
    min_p : float, optional
        Keep only tokens with at least this share of the highest probability, in [0, 1].
    repetition_penalty : float, default 1.0
        Above 1 makes tokens that occurred less probable, below 1 more.

    Raises
    ------
    TypeError
        If an option holds a value of another type.
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> from axone.llm import SamplingConfig
    >>> SamplingConfig(temperature=0.8, top_k=50).top_k
    50
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        require_field_types(self)
        if not 0 <= self.temperature < np.inf:
            raise ValueError(f"temperature ({self.temperature}) must be at least 0 and finite")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k ({self.top_k}) must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p ({self.top_p}) must be in (0, 1]")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p ({self.min_p}) must be in [0, 1]")
        if not 0 < self.repetition_penalty < np.inf:
            raise ValueError(f"repetition_penalty ({self.repetition_penalty}) must be positive and finite")

    @classmethod
    def merge(cls, sampling: SamplingConfig | None, options: SamplingOptions) -> SamplingConfig:
        """Return a configuration that is given as a whole, or option by option.

        Raises
        ------
        TypeError
            If it is given in both ways.
        """
        if sampling is None:
            return cls(**options)
        if options:
            raise TypeError(f"{next(iter(options))} and sampling must not be given together: set it in SamplingConfig")
        return sampling

    def filter(self, logits: Logits, seen: Ids | Sequence[int]) -> Logits:
        """Return the logits from which the token is drawn, in float64.

        Parameters
        ----------
        logits : ndarray, shape (V,)
        seen : sequence of int
            The tokens that occurred, including those of the prompt.

        Returns
        -------
        ndarray, shape (V,)
            Minus infinity for tokens that cannot be drawn.

        Raises
        ------
        ValueError
            If the largest logit is infinite or one is NaN, as those of a model that has diverged.
        """
        if self.temperature == 0:
            penalized = self._penalized(logits, seen)
            _largest(penalized)
            return penalized.astype(np.float64)
        ids, scores = self._candidates(logits, seen)
        if ids is None:
            return scores
        filtered = np.full(len(logits), -np.inf)
        filtered[ids] = scores
        return filtered

    def choose(self, logits: Logits, seen: Ids | Sequence[int], rng: np.random.Generator) -> int:
        """Return the next token.

        Parameters
        ----------
        logits : ndarray, shape (V,)
        seen : sequence of int
            As in `filter`.
        rng : numpy.random.Generator
            Draws one number per token, unless the temperature is 0.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            As `filter`.
        """
        if self.temperature == 0:
            return int(_largest(self._penalized(logits, seen))[0])
        ids, scores = self._candidates(logits, seen)
        drawn = _draw(rng.random(), np.exp(scores, scores))
        return drawn if ids is None else int(ids[drawn])

    def _candidates(self, logits: Logits, seen: Ids | Sequence[int]) -> tuple[Ids | None, Logits]:
        """Return the tokens that can be drawn, in order, or None for all of them, and their scores."""
        scores: Logits = self._penalized(logits, seen)
        _, largest = _largest(scores)
        scores = scores - np.float64(largest)  # so that a small temperature cannot overflow
        if self.temperature != 1.0:
            scores /= self.temperature
        ids: Ids | None = None
        if self.top_k is not None:
            ids = top_k(scores, self.top_k)
            scores = scores[ids]
        if self.top_p is not None and self.top_p < 1:
            kept = top_p(scores, self.top_p)
            ids, scores = kept if ids is None else ids[kept], scores[kept]
        if self.min_p:
            kept = min_p(scores, self.min_p)
            ids, scores = kept if ids is None else ids[kept], scores[kept]
        return ids, scores

    def _penalized(self, logits: Logits, seen: Ids | Sequence[int]) -> Logits:
        """Return logits with those of `seen` divided by the penalty where positive and multiplied where negative."""
        if self.repetition_penalty == 1.0:
            return logits
        penalized: Logits = logits.astype(np.float64)
        ids = np.asarray(seen, np.intp)
        chosen = penalized[ids]
        penalized[ids] = np.where(chosen < 0, chosen * self.repetition_penalty, chosen / self.repetition_penalty)
        return penalized


def _largest(scores: Logits) -> tuple[np.intp, float]:
    """Return the index of the largest score, and the score: `argmax` finds NaN too, and a reduction takes 1 us more."""
    at = scores.argmax()
    largest: float = scores.item(at)
    if not isfinite(largest):
        raise ValueError(
            f"the largest logit ({largest}) must be finite: the training of the model has diverged or its weights are "
            "damaged, so take an earlier checkpoint"
        )
    return at, largest


def top_k(scores: Logits, k: int) -> Ids:
    """Return the indices of the `k` largest scores, and of scores tied with the last of them."""
    if k >= len(scores):
        return np.arange(len(scores))
    if k > len(scores) // _BLOCK:
        return np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    # At least k scores are no smaller than the k-th largest of the blocks' largest.
    largest = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK))
    indices = np.flatnonzero(scores >= np.partition(largest, -k)[-k])
    candidates = scores[indices]
    return np.asarray(indices[candidates >= np.partition(candidates, -k)[-k]])


def top_p(scores: Logits, p: float) -> Ids:
    """Return the indices of all scores but the smallest, which together have no more than ``1 - p`` of the probability.

    Of several equal scores the last are kept.
    """
    weights = np.exp(scores)
    budget = (1 - p) * float(np.add.reduce(weights))
    indices = np.flatnonzero(
        weights >= budget / len(weights)
    )  # the others, even if they were all, weigh less than that
    candidates, candidate_weights = scores[indices], weights[indices]
    weights[indices] = 0.0
    least, num_tied_dropped = _least_kept(candidates, candidate_weights, budget - float(np.add.reduce(weights)))
    kept = np.flatnonzero(candidates >= least)
    if num_tied_dropped:
        kept = np.delete(kept, np.flatnonzero(candidates[kept] == least)[:num_tied_dropped])
    return indices[kept]


def _least_kept(scores: Logits, weights: Logits, budget: float) -> tuple[float, int]:
    """Return the smallest kept score if the smallest scores with a total weight of at most `budget` are dropped.

    And the number of dropped scores that are equal to it. Instead of sorting all, this halves the undecided ones until they
    are few.
    """
    while len(scores) > _BLOCK:
        some = scores[:: len(scores) // _BLOCK]
        middle = np.partition(some, len(some) // 2)[len(some) // 2]
        half = np.flatnonzero(scores < middle)
        if len(half) == 0:
            break  # most of them are equal
        weight = float(np.add.reduce(weights[half]))
        if weight <= budget:
            budget -= weight
            half = np.flatnonzero(scores >= middle)
        scores, weights = scores[half], weights[half]
    rising = np.argsort(scores, kind="stable")
    num_dropped = min(int(weights[rising].cumsum().searchsorted(budget, side="right")), len(scores) - 1)
    least = scores[rising[num_dropped]]
    return float(least), num_dropped - int(np.count_nonzero(scores < least))


def min_p(scores: Logits, p: float) -> Ids:
    """Return the indices of the scores of tokens at least `p` times as probable as the most probable one."""
    return np.flatnonzero(np.exp(scores) >= p)


def _draw(uniform: float, weights: Logits) -> int:
    """Return the first index up to which the weights sum to more than `uniform`, in [0, 1), of their total."""
    if len(weights) <= _MANY:
        cumulative = np.add.accumulate(weights)
        return int(cumulative.searchsorted(uniform * cumulative[-1], side="right"))
    # Blocks first: each addition of a running sum waits for the one before, which takes ten times as long as a sum.
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).cumsum()
    goal = uniform * sums[-1]
    block = int(sums.searchsorted(goal, side="right"))
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum()
    # reduceat and cumsum round differently. A goal beyond the block's last cumsum takes its last nonzero weight.
    goal = min(goal - (sums[block - 1] if block else 0.0), np.nextafter(inside[-1], 0.0))
    return block * _BLOCK + int(inside.searchsorted(goal, side="right"))
