"""Which windows of a text are read when: functions of numbers alone, so that nothing is remembered to resume in order.

A window is T tokens and the T that follow each of them, so N tokens hold (N - 1) // T windows that do not overlap.
"""

import functools
from typing import Literal, TypeAlias

import numpy as np

from axone.llm.types import Ids

Order: TypeAlias = Literal["random", "epoch"]

_AT_ONCE = 16  # batches: amid a training a generator takes 150 us to make, and 20 right after another


def batch_starts(seed: int, number: int, batch_size: int, context_length: int, tokens: int, order: Order) -> Ids:
    """Return where the windows of a batch start, in one of the orders: see `random_starts` and `epoch_starts`."""
    starts = random_starts if order == "random" else epoch_starts
    return starts(seed, number, batch_size, context_length, tokens)


def random_starts(seed: int, number: int, batch_size: int, context_length: int, tokens: int) -> Ids:
    """Return where the windows of a batch start: anywhere in the text.

    Parameters
    ----------
    seed, number : int
        Each batch of a training has its own number, from 0.
    batch_size, context_length, tokens : int
        B, T and N.

    Returns
    -------
    ndarray of int, shape (B,)
    """
    run, place = divmod(number, _AT_ONCE)
    return _drawn(seed, run, tokens - context_length, batch_size)[place]


def epoch_starts(seed: int, number: int, batch_size: int, context_length: int, tokens: int) -> Ids:
    """Return where the windows of a batch start: every one of them once before any comes again.

    Parameters and result are those of `random_starts`. A batch may end an epoch and begin the next.
    """
    windows = (tokens - 1) // context_length
    numbers = number * batch_size + np.arange(batch_size)  # of all epochs' windows
    epochs = numbers // windows
    starts = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        starts[here] = _shuffled(seed, epoch, windows)[numbers[here] % windows]
    return starts * context_length


def even_starts(context_length: int, tokens: int, limit: int | None = None) -> Ids:
    """Return where the windows start that follow each other without overlap.

    Parameters
    ----------
    context_length, tokens : int
        T and N.
    limit : int, optional
        The most windows, evenly spread.

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
def _drawn(seed: int, run: int, windows: int, batch_size: int) -> tuple[Ids, ...]:
    """Return the starts of several batches, each drawn by a generator of its own."""
    numbers = range(run * _AT_ONCE, (run + 1) * _AT_ONCE)
    drawn = tuple(np.random.default_rng((seed, number)).integers(0, windows, batch_size) for number in numbers)
    for starts in drawn:
        starts.flags.writeable = False  # the cache returns them again
    return drawn


@functools.lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int) -> Ids:
    """Return the numbers below `count` in the order of an epoch."""
    numbers: Ids = np.random.default_rng((seed, epoch)).permutation(count)
    numbers.flags.writeable = False  # the cache returns them again
    return numbers
