"""Token loop: reads the last tokens of a batch, chooses the next ones, and drops finished sequences."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from axone.llm.generation.batch import DecodingBatch
from axone.llm.generation.sampling import SamplingConfig
from axone.llm.generation.speculation import Speculation
from axone.llm.types import Logits


@dataclass
class Row:
    """One of the sequences of a batch: its random numbers, and whether it has ended.

    The caller of `token_loop` may set `stopped` too.
    """

    rng: np.random.Generator
    stopped: bool = False


R = TypeVar("R", bound=Row)


def token_loop(
    batch: DecodingBatch,
    rows: Sequence[R],
    sampling: SamplingConfig,
    stop_ids: frozenset[int],
    max_new_tokens: int,
    vocab_size: int | None = None,
    speculation: Speculation | None = None,
) -> Generator[list[tuple[R, int, Logits]], None, None]:
    """Yield the next token of each sequence that has not ended, with the logits from which it was chosen.

    A guess is verified as follows: the token at its position is drawn from the model's logits, with the same random number
    as without guesses. If it is the guess, the position after it has been read too. So a guess is accepted with the
    probability that the model gives it, otherwise the token is drawn from the rest, and the text is that without guesses.

    Parameters
    ----------
    batch : DecodingBatch
    rows : sequence of Row
        One for each sequence of the batch.
    sampling : SamplingConfig
    stop_ids : frozenset of int
        Tokens that end a sequence, and are not yielded.
    max_new_tokens : int
        For each sequence.
    vocab_size : int, optional
        Tokens from it on are never drawn.
    speculation : Speculation, optional
        Guesses for a single sequence.

    Yields
    ------
    list of (row, token, logits)
    """
    live, remaining = list(rows), max_new_tokens
    while live and remaining > 0:
        if speculation is None:
            guesses, logits = [], batch.logits()[None]  # (1, B, V)
        else:
            guesses = speculation.guess(min(batch.max_guesses, remaining - 1))
            begin = time.perf_counter()
            logits = batch.verify(guesses)[:, None] if guesses else batch.logits()[None]  # (guesses + 1, 1, V)
            speculation.time(len(guesses), time.perf_counter() - begin)
        for scores, guess in zip(logits, [*guesses, None], strict=True):
            tokens = [
                sampling.choose(own[:vocab_size], sequence, row.rng)
                for row, own, sequence in zip(live, scores, batch.sequences, strict=True)
            ]
            for row, token in zip(live, tokens):
                row.stopped = token in stop_ids
            yield [(row, token, own) for row, token, own in zip(live, tokens, scores) if not row.stopped]
            batch.append(tokens)
            remaining -= 1
            if speculation is not None:
                speculation.push(tokens[0])
            unfinished = _unfinished(live)
            if len(unfinished) < len(live):
                live = [live[number] for number in unfinished]
                if live:
                    batch.keep(unfinished)
            if not live or tokens[0] != guess:
                break


def _unfinished(rows: Sequence[Row]) -> list[int]:
    """Return the numbers of the rows that have not ended, the last ones in the places of ended ones."""
    numbers = [number for number, row in enumerate(rows) if not row.stopped]
    moved = (number for number in numbers if number >= len(numbers))
    return [next(moved) if rows[place].stopped else place for place in range(len(numbers))]
