"""Samplers: the starts of a batch's sequences as functions of numbers alone, so that a resumed run draws the same.

A sequence is T ids and the T that follow each of them, so that N ids have (N - 1) // T consecutive sequences.
"""

import functools
from typing import Literal, TypeAlias

import numpy as np

from axone.llm.types import Ids

SamplingMode: TypeAlias = Literal["random", "epoch"]

_AT_ONCE = 16  # batches: between training steps a generator takes 150 us to make, and 20 right after another


def batch_starts(
    seed: int, number: int, batch_size: int, context_length: int, tokens: int, sampling: SamplingMode
) -> Ids:
    """Return the starts of a batch's sequences by `random_starts` or `epoch_starts`."""
    starts = random_starts if sampling == "random" else epoch_starts
    return starts(seed, number, batch_size, context_length, tokens)


def random_starts(seed: int, number: int, batch_size: int, context_length: int, tokens: int) -> Ids:
    """Return random starts of a batch's sequences.

    Parameters
    ----------
    seed, number : int
        Each batch of a training has its own number, from 0.
    batch_size, context_length, tokens : int
        B, T and N.

    Returns
    -------
    ndarray of int, shape (B,)
        Read-only.
    """
    group, index = divmod(number, _AT_ONCE)
    return _random(seed, group, tokens - context_length, batch_size)[index]


def epoch_starts(seed: int, number: int, batch_size: int, context_length: int, tokens: int) -> Ids:
    """Return the starts of a batch's sequences in shuffled epochs: each consecutive sequence once per epoch.

    Parameters and result are those of `random_starts`. A batch may end an epoch and begin the next.
    """
    sequences = (tokens - 1) // context_length
    numbers = number * batch_size + np.arange(batch_size)  # counted over all epochs
    epochs = numbers // sequences
    starts = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        chosen = epochs == epoch
        starts[chosen] = _shuffled(seed, epoch, sequences)[numbers[chosen] % sequences]
    return starts * context_length


def even_starts(context_length: int, tokens: int, limit: int | None = None) -> Ids:
    """Return the start of every consecutive sequence.

    Parameters
    ----------
    context_length, tokens : int
        T and N.
    limit : int, optional
        The largest number of sequences, evenly spread.

    Returns
    -------
    ndarray of int, shape (W,)
    """
    count = (tokens - 1) // context_length
    chosen = np.arange(count)
    if limit is not None and limit < count:
        chosen = np.arange(limit) * count // limit
    return chosen * context_length


@functools.lru_cache(maxsize=2)
def _random(seed: int, group: int, stop: int, batch_size: int) -> list[Ids]:
    """Return the starts of several batches, each drawn by its own generator."""
    numbers = range(group * _AT_ONCE, (group + 1) * _AT_ONCE)
    return [_read_only(np.random.default_rng((seed, number)).integers(0, stop, batch_size)) for number in numbers]


@functools.lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int) -> Ids:
    """Return the numbers below `count` in an epoch's order."""
    return _read_only(np.random.default_rng((seed, epoch)).permutation(count))


def _read_only(array: Ids) -> Ids:
    """Forbid writing to an array that a cache returns several times."""
    array.flags.writeable = False
    return array
