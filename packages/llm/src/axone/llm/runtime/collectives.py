"""All-gather over shared memory: each rank writes its slice, spins until all ranks have arrived, then reads the whole vector.

A token of GPT-2 takes 10 ms and 49 all-gathers. A sleeping process wakes up 20 to 50 us late; a spinning one takes 2 us.
A rank that waits for long, because another rank has no core of its own, yields its core, then sleeps.

No memory barrier orders the writes. On x86, every process sees the writes of another one in their order [1]_: first the
slice, then the counter that announces it. Other processors do not guarantee this.

References
----------
.. [1] P. Sewell et al., "x86-TSO: A Rigorous and Usable Programmer's Model for x86 Multiprocessors",
   https://www.cl.cam.ac.uk/~pes20/weakmemory/cacm.pdf
"""

from __future__ import annotations

import functools
import mmap
import os
import platform
from collections.abc import Callable
from itertools import pairwise
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from numpy.typing import DTypeLike

from axone.autograd.extend import Array
from axone.llm.runtime.processes import ProcessGroup, can_fork, shared_zeros

_STRIDE = 8  # counters per cache line: two ranks that write to one line slow each other down
_CHUNK = 1 << 18  # weights: 20 to 40 us
_MAX_CHUNKS = 8
_SPINS, _YIELDS = 2_000, 2_000  # reads of a counter: 0.1 ms, and 1 ms

P = ParamSpec("P")
R = TypeVar("R")


class Group(Protocol):
    """Ranks that run one program together, such as `ProcessGroup`."""

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Let the other ranks call a method of the program; in other ranks than 0, do nothing."""

    def call_failed(self, error: BaseException) -> None:
        """Handle an error that the method raises in this rank."""


class Program(Protocol):
    """Object with collective methods."""

    @property
    def group(self) -> Group:
        """The ranks that run these methods."""


C = TypeVar("C", bound=Program)


def collective(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """Run a method in all ranks of ``self.group`` when rank 0 calls it.

    Positional arguments are broadcast: numbers, text, lists and arrays. Keyword arguments are not: the other ranks use
    their defaults.

    Examples
    --------
    >>> from axone.llm.runtime.collectives import collective
    >>> from axone.llm.runtime.threads import ThreadGroup
    >>> class Sum:
    ...     def __init__(self, group):
    ...         self.group = group
    ...
    ...     @collective
    ...     def range(self, stop):
    ...         half = stop // 2
    ...         return sum(
    ...             self.group.run(
    ...                 [lambda: sum(range(half)), lambda: sum(range(half, stop))]
    ...             )
    ...         )
    >>> with ThreadGroup(2) as group:  # or ProcessGroup(2)
    ...     Sum(group).range(10)
    45
    """

    @functools.wraps(method)
    def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        group = self.group
        group.broadcast_call(self, method.__name__, *args)
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:
            group.call_failed(error)
            raise

    return call


def can_all_gather() -> bool:
    """Return whether processes may be forked here and see each other's writes in order."""
    return can_fork() and platform.machine() == "x86_64"


class SharedAllGather:
    """All-gather of the ranks of a process group, over memory that they share; to be made before they are forked.

    Parameters
    ----------
    group : ProcessGroup
    max_size : int
        The most elements of a vector.
    dtype : dtype
    """

    def __init__(self, group: ProcessGroup, max_size: int, dtype: DTypeLike) -> None:
        self._group = group
        self._buffers = shared_zeros(2 * max_size, dtype).reshape(2, max_size)
        self._arrived = _counters(group.world_size * _STRIDE)  # per rank, the last round at which it arrived
        self._claimed = _counters(group.world_size * _MAX_CHUNKS)  # per chunk, the last round in which it was claimed
        self._round = 0

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return self._group.world_size

    def shard(self, total: int) -> slice:
        """Return the slice of this rank."""
        return self._shard(self._group.rank, total)

    def chunks(self, total: int, width: int) -> list[tuple[int, slice]]:
        """Split rows into chunks, in the order in which this rank tries to claim them.

        The shard of this rank comes first, in chunks that halve down to a least size. The chunks of other ranks follow
        from their last ones on, for work stealing: without it, a rank on a slowed-down core delayed the others by 0.5 ms
        at the last all-gather of a token of GPT-2 alone.

        Parameters
        ----------
        total : int
            Number of rows.
        width : int
            Elements per row.

        Returns
        -------
        list of (int, slice)
            Number and rows of each chunk.
        """
        shards = []
        for rank in range(self._group.world_size):
            shard = self._shard(rank, total)
            rows = shard.stop - shard.start
            count = min(max((rows * width // _CHUNK).bit_length(), 1), _MAX_CHUNKS)
            edges = [shard.stop - (rows >> halvings) for halvings in range(count)] + [shard.stop]
            first = rank * _MAX_CHUNKS
            shards.append([(first + k, slice(*edge)) for k, edge in enumerate(pairwise(edges))])
        own = shards.pop(self._group.rank)
        return own + [chunk for shard in shards for chunk in reversed(shard)]

    def buffer(self, total: int) -> Array:
        """Return the vector of the next round, (total,), to whose slice this rank writes."""
        self._round += 1  # two buffers suffice: all ranks that arrived at the last round have copied the one before it
        vector: Array = self._buffers[self._round & 1, :total]
        return vector

    def claim(self, chunk: int) -> bool:
        """Claim a chunk of this round, unless a rank has claimed it; if two do at the same time, they write the same."""
        if self._claimed[chunk] == self._round:
            return False
        self._claimed[chunk] = self._round
        return True

    def gather(self, vector: Array) -> Array:
        """Wait until all ranks have written to the vector that `buffer` returned, and return a copy of it.

        Raises
        ------
        ChildProcessError
            If a process has ended.
        """
        arrived, last = self._arrived, self._round
        arrived[self._group.rank * _STRIDE] = last
        for other in range(0, len(arrived), _STRIDE):
            if arrived[other] < last:
                self._wait(other)
        return vector.copy()

    def _shard(self, rank: int, total: int) -> slice:
        size = self._group.world_size
        return slice(total * rank // size, total * (rank + 1) // size)

    def _wait(self, other: int) -> None:
        arrived, last = self._arrived, self._round
        for _ in range(_SPINS):
            if arrived[other] >= last:
                return
        for _ in range(_YIELDS):
            os.sched_yield()
            if arrived[other] >= last:
                return
        self._group.poll(lambda: arrived[other] >= last)


def _counters(count: int) -> memoryview:
    """Return integers in shared memory; a memoryview is indexed faster than an array."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("q")
