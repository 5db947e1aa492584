"""Intra-op parallelism: runs the chunks of one operation on threads that the calling thread may use.

An operation that can be cut into chunks of heads, rows or columns passes them to `parallel_for`. By default that is a
loop over a single chunk. A trainer whose batch has fewer sequences than there are cores assigns the idle threads to its
workers with `use_threads`: each chunk then occupies one core, so that products inside it need one BLAS thread.
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_LEAST_WORK = 1 << 22  # multiplications of a chunk: waking a thread for less costs more than it saves


class Run(Protocol):
    """Runs functions at the same time, each on a thread of its own."""

    def __call__(self, parts: Sequence[Callable[[], R]], /) -> list[R]:
        """Return the results of all functions when the last has ended."""


class _Assigned(threading.local):
    """The threads that the calling thread may use; a thread that runs a chunk has none but itself."""

    run: Run | None = None
    num_threads = 1


_assigned = _Assigned()


@contextlib.contextmanager
def use_threads(run: Run | None, num_threads: int) -> Iterator[None]:
    """Let operations of the calling thread run their chunks on several threads, as a context manager.

    Parameters
    ----------
    run : callable or None
        Runs at most `num_threads` functions at the same time; None ends intra-op parallelism inside the context.
    num_threads : int
        The number of threads, the caller's included.
    """
    before: Any = _assigned.run, _assigned.num_threads
    _assigned.run, _assigned.num_threads = run, num_threads
    try:
        yield
    finally:
        _assigned.run, _assigned.num_threads = before


def is_single_threaded() -> bool:
    """Return whether operations of the calling thread run on that thread alone."""
    return _assigned.run is None


def chunks(size: int, *, multiple_of: int = 1, work: int = _LEAST_WORK) -> list[slice]:
    """Cut an axis into chunks: one per assigned thread, or fewer, so that each is worth waking a thread.

    Parameters
    ----------
    size : int
        The length of the axis.
    multiple_of : int, default 1
        The length of each chunk but the last is a multiple of it.
    work : int, optional
        The number of multiplications per element of the axis; by default a single element is worth a thread.

    Returns
    -------
    list of slice
    """
    if _assigned.num_threads == 1:
        return [slice(0, size)]
    least = _LEAST_WORK // max(work, 1)
    count = max(min(_assigned.num_threads, size // max(multiple_of, least)), 1)
    cuts = [size * i // (count * multiple_of) * multiple_of for i in range(count)]
    return [slice(start, stop) for start, stop in itertools.pairwise([*cuts, size])]


def parallel_for(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Call a function on each part, on several threads if `use_threads` assigned them, and return the results in order.

    Parameters
    ----------
    function : callable
        A call must not write anything that the call for another part reads.
    parts : sequence
        The chunks from `chunks`, possibly with what was computed for each before. If there are more parts than threads,
        the calling thread runs them all.

    Returns
    -------
    list
    """
    run = _assigned.run
    if run is None or not 1 < len(parts) <= _assigned.num_threads:
        return [function(part) for part in parts]
    with use_threads(None, 1):
        return run([functools.partial(function, part) for part in parts])
