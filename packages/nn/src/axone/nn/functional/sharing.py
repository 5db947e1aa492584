"""Operations computed by several threads, where idle ones have been lent to the thread that computes.

An operation that can be cut into parts, such as heads, rows or columns, hands them to `share_out`. Where nobody has lent
threads that is a loop over a single part. A trainer whose batch has fewer windows than there are cores lends threads for
the idle ones (`lend`): each part is then a part for one core, and products inside it want one thread of BLAS.
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_ALONE = 1 << 22  # multiplications: a thread's share of an operation is at least that


class Run(Protocol):
    """Carries out parts side by side."""

    def __call__(self, parts: Sequence[Callable[[], R]], /) -> list[R]:
        """Return what each part returned, when all have ended."""


class _Lent(threading.local):
    """What the calling thread may use; a thread that carries out a part has nothing to share out in turn."""

    run: Run | None = None
    threads = 1


_lent = _Lent()


@contextlib.contextmanager
def lend(run: Run | None, threads: int) -> Iterator[None]:
    """Let operations of the calling thread share out their parts.

    Parameters
    ----------
    run : callable or None
        Carries out at most `threads` parts; None takes back what was lent.
    threads : int
        The caller's included.
    """
    before: Any = _lent.run, _lent.threads
    _lent.run, _lent.threads = run, threads
    try:
        yield
    finally:
        _lent.run, _lent.threads = before


def is_alone() -> bool:
    """Tell whether the calling thread has nobody to share with."""
    return _lent.run is None


def shares(size: int, *, of: int = 1, work: int = _ALONE) -> list[slice]:
    """Return shares of an axis: one for each thread that there is, or fewer, so that each is worth handing over.

    Parameters
    ----------
    size : int
        The length of the axis.
    of : int, default 1
        All shares but the last are multiples of it.
    work : int, optional
        How many multiplications each element of the axis takes, by default enough to be a share.
    """
    if _lent.threads == 1:
        return [slice(0, size)]
    least = _ALONE // max(work, 1)
    count = max(min(_lent.threads, size // max(of, least)), 1)
    cuts = [size * i // (count * of) * of for i in range(count)]
    return [slice(start, stop) for start, stop in itertools.pairwise([*cuts, size])]


def share_out(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return what a function gives for each part, computed side by side where threads have been lent.

    Parameters
    ----------
    function : callable
        It writes nothing that its result for another part depends on.
    parts : sequence
        From `shares`, perhaps with what was computed of each before. More than there are threads now are computed one
        after the other.
    """
    run = _lent.run
    if run is None or not 1 < len(parts) <= _lent.threads:
        return [function(part) for part in parts]
    with lend(None, 1):
        return run([functools.partial(function, part) for part in parts])
