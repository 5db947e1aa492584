"""Where forked processes meet, several times a layer: each writes a part of a vector, and has all when all have.

A token of GPT-2 takes 10 ms and 49 meetings. To be woken takes a process 20 to 50 us, so here it waits awake, in memory
that all see: a meeting costs it 2. One that waits for long, because another has no core to itself, yields its own, then
sleeps.

Nothing here tells the processor in which order to write. x86 shows every process what another one wrote in the order in
which it was written [1]_, first the part and then the word that it is there; other processors do not.

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

_APART = 8  # counters: two in one line of the cache would slow each other down
_CHUNK = 1 << 18  # weights: 20 to 40 us
_MOST_CHUNKS = 8
_AWAKE, _YIELDING = 2_000, 2_000  # looks at a counter: 0.1 ms, and 1 ms

P = ParamSpec("P")
R = TypeVar("R")


class Group(Protocol):
    """A group of ranks, such as `ThreadGroup` or `ProcessGroup`."""

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Let all other ranks call a method of the program."""


class Program(Protocol):
    """An object with `collective` methods."""

    @property
    def group(self) -> Group:
        """The group whose ranks run these methods."""


S = TypeVar("S", bound=Program)


def collective(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method collective: when rank 0 calls it, all ranks of `self.group` call it with the same arguments.

    Positional arguments are broadcast as JSON: numbers, text, lists and arrays. Keyword arguments are not: they stay in
    the calling rank, and the other ranks use the defaults.
    """

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.group.broadcast_call(self, method.__name__, *args)
        return method(self, *args, **kwargs)

    return call


def can_all_gather() -> bool:
    """Tell whether processes may be forked here, and see what others write in order."""
    return can_fork() and platform.machine() == "x86_64"


class SharedAllGather:
    """Where the processes of a group meet; it is made before they are forked.

    Parameters
    ----------
    group : ProcessGroup
    room : int
        The most elements that a vector has.
    dtype : dtype
        Its kind.
    """

    def __init__(self, group: ProcessGroup, room: int, dtype: DTypeLike) -> None:
        self._group = group
        self._vectors = shared_zeros(2 * room, dtype).reshape(2, room)
        self._arrivals = _counters(group.world_size * _APART)  # how many meetings each process came to
        self._claims = _counters(group.world_size * _MOST_CHUNKS)  # for which meeting each chunk was last taken
        self._meetings = 0

    def shard(self, total: int) -> slice:
        """Return which of some things are this process's."""
        return self._shard(self._group.rank, total)

    def chunks(self, total: int, width: int) -> list[tuple[int, slice]]:
        """Cut rows into chunks, in the order in which this process takes those that nobody else has taken.

        Its shard comes first, in chunks of which each is half of the one before, down to some size. What others have
        not come to follows, their last chunks first: so a process that is slowed down delays nobody for long.

        Parameters
        ----------
        total : int
            How many rows there are.
        width : int
            Of each.

        Returns
        -------
        list of (int, slice)
            The number of each chunk, and its rows.
        """
        group, shards = self._group, []
        for rank in range(group.world_size):
            shard = self._shard(rank, total)
            rows = shard.stop - shard.start
            count = min(max((rows * width // _CHUNK).bit_length(), 1), _MOST_CHUNKS)
            edges = [shard.stop - (rows >> halved) for halved in range(count)] + [shard.stop]
            first = rank * _MOST_CHUNKS
            shards.append([(first + k, slice(*edge)) for k, edge in enumerate(pairwise(edges))])
        own = shards.pop(group.rank)
        return own + [chunk for shard in shards for chunk in reversed(shard)]

    def buffer(self, total: int) -> Array:
        """Return the vector of the next meeting, (total,), for this process to write its part to."""
        self._meetings += 1  # its vector was last used two meetings ago: all who came to the one since have copied it
        vector: Array = self._vectors[self._meetings & 1, :total]
        return vector

    def claim(self, chunk: int) -> bool:
        """Take a chunk, unless someone has. That two take it at the same time is rare, and both write the same."""
        if self._claims[chunk] == self._meetings:
            return False
        self._claims[chunk] = self._meetings
        return True

    def gather(self, vector: Array) -> Array:
        """Wait until all have written their parts.

        Parameters
        ----------
        vector : ndarray
            As `buffer` returned it.

        Returns
        -------
        ndarray
            All of it: a copy.

        Raises
        ------
        ChildProcessError
            If another process has ended.
        """
        arrivals, meetings = self._arrivals, self._meetings
        arrivals[self._group.rank * _APART] = meetings
        for other in range(0, len(arrivals), _APART):
            if arrivals[other] < meetings:
                self._wait(other)
        return vector.copy()

    def _shard(self, rank: int, total: int) -> slice:
        return slice(total * rank // self._group.world_size, total * (rank + 1) // self._group.world_size)

    def _wait(self, other: int) -> None:
        arrivals, meetings = self._arrivals, self._meetings
        for _ in range(_AWAKE):
            if arrivals[other] >= meetings:
                return
        for _ in range(_YIELDING):
            os.sched_yield()
            if arrivals[other] >= meetings:
                return
        self._group.poll(lambda: arrivals[other] >= meetings)


def _counters(count: int) -> memoryview:
    """Return integers in shared memory; a view of them is quicker than an array."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("q")
