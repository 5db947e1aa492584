"""Speculation: how many guesses of a draft are worth verifying, learned from those that were right.

Verifying k guesses takes about ``1 + a + b k`` times as long as one token; a and b are learned from the times. If the
guesses are right with probabilities p1, p2, ... this gives ``1 + p1 + p1 p2 + ...`` tokens. The k with the most tokens per
time is chosen, which is 0 where guesses fail.

The log odds of a guess are those of its class, plus those of the text: in a text that copies, guesses of all classes are
right more often. Both are learned by gradient descent on the logistic loss. Every token of the text is compared with the
guess for it, also if the guess was not verified: so the probabilities stay current at the cost of a lookup. Where lookups
find nothing of use for long, they pause.

The choice changes the time alone, and never the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from axone.llm.generation.drafting import Draft, Guess, Lookup, PromptLookup

DraftChoice: TypeAlias = Literal["prompt"] | Draft | None
"""``"prompt"``, a `Draft` of a corpus, or None for no guesses."""

MAX_GUESSES = 15
_FIRST_COST, _COST = 0.08, 0.12  # a and b, before they are learned: two cores that read SmolLM2 from memory
_COST_RATE, _COST_SCALE = 0.2, 16  # of normalized least mean squares; a changes 16 times as fast as b for one guess
_TEXT_RATE, _CLASS_RATE = 0.2, 0.1  # of the log odds, per guess
_MOST_ODDS = 2.0  # largest log odds of a text
_WARM_UP = 3  # readings that are not timed: prefill, fork, first touch
_FRUITLESS = 32  # lookups without a guess worth verifying, before a pause
_LONGEST_PAUSE = 256  # tokens


class Speculation:
    """Guesses for one text, as many as are worth verifying.

    Parameters
    ----------
    lookup : Lookup
    vocab_size : int
        Guesses from it on are dropped.
    """

    def __init__(self, lookup: Lookup, vocab_size: int) -> None:
        self._lookup = lookup
        self._vocab_size = vocab_size
        self._odds = [math.log(prior / (1 - prior)) for prior in lookup.priors]  # log odds of each class
        self._text_odds = 0.0
        self._open: list[Guess] = []  # guesses of tokens to come, the next one last
        self._first_cost, self._cost = _FIRST_COST, _COST
        self._single: float | None = None  # seconds without guesses
        self._readings = 0
        self._fruitless = self._pause = self._skip = 0

    @classmethod
    def of(cls, draft: DraftChoice, prompt: Sequence[int], vocab_size: int) -> Speculation | None:
        """Return the guesses for a text with a prompt, or None without a draft."""
        if draft is None:
            return None
        return cls(PromptLookup(prompt) if draft == "prompt" else draft.lookup(prompt), vocab_size)

    def guess(self, most: int) -> list[int]:
        """Return the guesses to verify, at most `most`."""
        if self._skip:
            self._skip -= 1
            return []
        guesses = self._lookup.guess(min(max(most, 1), MAX_GUESSES))
        self._open = guesses[::-1]
        probability = tokens = speed = 1.0
        count = 0
        for at, (token, kind) in enumerate(guesses[:most], 1):
            probability *= self._probability(kind)
            tokens += probability
            if token >= self._vocab_size or probability < self._cost:
                break
            faster = tokens / (1 + self._first_cost + self._cost * at)
            if faster > speed:
                speed, count = faster, at
        self._rest(fruitless=not count)
        return [guess.token for guess in guesses[:count]]

    def push(self, token: int) -> None:
        """Append a token to the text, and compare it with the guess for it."""
        if self._open:
            guess, kind = self._open.pop()
            error = (guess == token) - self._probability(kind)
            self._odds[kind] += _CLASS_RATE * error
            self._text_odds = min(max(self._text_odds + _TEXT_RATE * error, -_MOST_ODDS), _MOST_ODDS)
            if guess != token:
                self._open.clear()
        self._lookup.push(token)

    def time(self, count: int, seconds: float) -> None:
        """Take the time of reading the last token and `count` guesses."""
        self._readings += 1
        if self._readings <= _WARM_UP:
            return
        if count == 0:
            single = self._single or seconds
            self._single = single + 0.1 * (min(seconds, 2 * single) - single)
        elif self._single is not None:
            expected = 1 + self._first_cost + self._cost * count
            error = min(seconds / self._single, 2 * expected) - expected
            step = _COST_RATE * error / (_COST_SCALE + count * count)
            self._first_cost = max(self._first_cost + _COST_SCALE * step, 0.0)
            self._cost = max(self._cost + count * step, 0.01)

    def _probability(self, kind: int) -> float:
        """Return the probability that a guess of a class is right."""
        return 1 / (1 + math.exp(-self._odds[kind] - self._text_odds))

    def _rest(self, *, fruitless: bool) -> None:
        """Count lookups without use, and pause after many in a row; each pause is twice as long as the last."""
        if not fruitless:
            self._fruitless = self._pause = 0
            return
        self._fruitless += 1
        if self._fruitless >= _FRUITLESS:
            self._skip = self._pause = min(2 * self._pause or _FRUITLESS, _LONGEST_PAUSE)
            self._fruitless = _FRUITLESS // 2
            self._open.clear()


def check_draft(draft: object) -> None:
    """Refuse a draft of another kind.

    Raises
    ------
    TypeError
        If it is neither a `Draft` nor a text nor None.
    ValueError
        If it is another text than ``"prompt"``.
    """
    if isinstance(draft, str) and draft != "prompt":
        raise ValueError(f'draft ({draft!r}) must be "prompt" or a Draft: build one from a corpus with Draft(tokens)')
    if draft is not None and not isinstance(draft, str | Draft):
        raise TypeError(
            f'draft ({draft!r:.60}) must be "prompt" or a Draft: build one from a corpus with Draft(tokens)'
        )
