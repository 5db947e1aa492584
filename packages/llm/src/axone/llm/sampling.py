"""From logits to a token: the filters, in the order in which Hugging Face applies them, and the draw.

Each filter takes and returns logits of shape (B, V); what it rules out becomes minus infinity.

References
----------
.. [1] A. Holtzman et al., "The Curious Case of Neural Text Degeneration" (top-p), https://arxiv.org/abs/1904.09751
.. [2] N. S. Keskar et al., "CTRL" (repetition penalty), https://arxiv.org/abs/1909.05858
.. [3] N. N. Minh et al., "Turning Up the Heat: Min-p Sampling", https://arxiv.org/abs/2407.01082
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Parameters
    ----------
    temperature : float, default 1.0
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Only the k most probable tokens, and those tied with the last of them.
    top_p : float, optional
        Only the most probable tokens that together have this probability, in (0, 1].
    min_p : float, optional
        Only tokens with at least this share of the highest probability, in [0, 1].
    repetition_penalty : float, default 1.0
        Makes tokens that occurred less probable, above 1, or more, below.

    Raises
    ------
    ValueError
        If an option is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise ValueError(f"temperature must be at least 0, and is {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, and is {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], and is {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], and is {self.min_p}")
        if not 0 < self.repetition_penalty < np.inf:
            raise ValueError(f"repetition_penalty must be positive, and is {self.repetition_penalty}")

    def filter(self, logits: Logits, seen: Ids | Sequence[int]) -> Logits:
        """Return the logits that the draw is made from, in float64.

        Parameters
        ----------
        logits : ndarray, shape (V,)
        seen : sequence of int
            The tokens that occurred, prompt included.

        Returns
        -------
        ndarray, shape (V,)
        """
        scores: Logits = logits.astype(np.float64)
        if self.repetition_penalty != 1.0:
            scores = repetition_penalty(scores, seen, self.repetition_penalty)
        if self.temperature == 0:
            return scores
        scores -= scores.item(
            scores.argmax()
        )  # so that a small temperature cannot overflow; a reduction takes 1 us more
        if self.temperature != 1:
            scores /= self.temperature
        if self.top_k is not None:
            scores = top_k(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            scores = top_p(scores, self.top_p)
        if self.min_p:
            scores = min_p(scores, self.min_p)
        return scores

    def choose(self, logits: Logits, seen: Ids | Sequence[int], rng: np.random.Generator) -> int:
        """Return the next token.

        Parameters
        ----------
        logits : ndarray, shape (V,)
        seen : sequence of int
            As in `filter`.
        rng : numpy.random.Generator
            Where the draw comes from.

        Returns
        -------
        int
        """
        if self.temperature == 0 and self.repetition_penalty == 1.0:
            return int(logits.argmax())
        scores = self.filter(logits, seen)
        if self.temperature == 0:
            return int(scores.argmax())
        cumulative = np.add.accumulate(np.exp(scores, scores))  # the largest score is 0
        return int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))


def repetition_penalty(logits: Logits, seen: Ids | Sequence[int], penalty: float) -> Logits:
    """Return logits with those of `seen` divided by `penalty` where positive and multiplied where negative."""
    ids = np.unique(np.asarray(seen, np.intp))
    logits = logits.copy()
    chosen = logits[..., ids]
    logits[..., ids] = np.where(chosen < 0, chosen * penalty, chosen / penalty)
    return logits


def top_k(logits: Logits, k: int) -> Logits:
    """Return logits with all below the k-th largest ruled out."""
    k = min(k, logits.shape[-1])
    least = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < least, -np.inf, logits)


def top_p(logits: Logits, p: float) -> Logits:
    """Return logits with the least probable ruled out, as long as the rest keeps at least the probability `p`."""
    order = np.argsort(logits, axis=-1, kind="stable")
    probabilities = _softmax(np.take_along_axis(logits, order, axis=-1))
    drop = np.cumsum(probabilities, axis=-1) <= 1 - p
    drop[..., -1] = False
    dropped = np.zeros_like(drop)
    np.put_along_axis(dropped, order, drop, axis=-1)
    return np.where(dropped, -np.inf, logits)


def min_p(logits: Logits, p: float) -> Logits:
    """Return logits with all less probable than `p` times the most probable ruled out."""
    probabilities = _softmax(logits)
    return np.where(probabilities < p * probabilities.max(axis=-1, keepdims=True), -np.inf, logits)


def _softmax(logits: Logits) -> Logits:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
