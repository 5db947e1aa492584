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

import mmap
import os
import platform
from itertools import pairwise

from numpy.typing import DTypeLike

from axone.autograd.extend import Array
from axone.llm.runtime.processes import Processes, can_fork, shared_zeros

_APART = 8  # counters: two in one line of the cache would slow each other down
_PIECE = 1 << 18  # weights: 20 to 40 us
_MOST_PIECES = 8
_AWAKE, _YIELDING = 2_000, 2_000  # looks at a counter: 0.1 ms, and 1 ms


def can_meet() -> bool:
    """Tell whether processes may be forked here, and see what others write in order."""
    return can_fork() and platform.machine() == "x86_64"


class Meeting:
    """Where the processes of a team meet; it is made before they are forked.

    Parameters
    ----------
    team : Processes
    room : int
        The most elements that a vector has.
    dtype : dtype
        Its kind.
    """

    def __init__(self, team: Processes, room: int, dtype: DTypeLike) -> None:
        self._team = team
        self._vectors = shared_zeros(2 * room, dtype).reshape(2, room)
        self._arrivals = _counters(team.size * _APART)  # how many meetings each process came to
        self._claims = _counters(team.size * _MOST_PIECES)  # for which meeting each piece was last taken
        self._meetings = 0

    def share(self, total: int) -> slice:
        """Return which of some things are this process's."""
        return self._share(self._team.number, total)

    def pieces(self, total: int, width: int) -> list[tuple[int, slice]]:
        """Cut rows into pieces, in the order in which this process takes those that nobody else has taken.

        Its share comes first, in pieces of which each is half of the one before, down to some size. What others have
        not come to follows, their last pieces first: so a process that is slowed down delays nobody for long.

        Parameters
        ----------
        total : int
            How many rows there are.
        width : int
            Of each.

        Returns
        -------
        list of (int, slice)
            The number of each piece, and its rows.
        """
        team, shares = self._team, []
        for process in range(team.size):
            share = self._share(process, total)
            rows = share.stop - share.start
            count = min(max((rows * width // _PIECE).bit_length(), 1), _MOST_PIECES)
            edges = [share.stop - (rows >> halved) for halved in range(count)] + [share.stop]
            first = process * _MOST_PIECES
            shares.append([(first + k, slice(*edge)) for k, edge in enumerate(pairwise(edges))])
        own = shares.pop(team.number)
        return own + [piece for share in shares for piece in reversed(share)]

    def begin(self, total: int) -> Array:
        """Return the vector of the next meeting, (total,), for this process to write its part to."""
        self._meetings += 1  # its vector was last used two meetings ago: all who came to the one since have copied it
        vector: Array = self._vectors[self._meetings & 1, :total]
        return vector

    def claim(self, piece: int) -> bool:
        """Take a piece, unless someone has. That two take it at the same time is rare, and both write the same."""
        if self._claims[piece] == self._meetings:
            return False
        self._claims[piece] = self._meetings
        return True

    def end(self, vector: Array) -> Array:
        """Wait until all have written their parts.

        Parameters
        ----------
        vector : ndarray
            As `begin` returned it.

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
        arrivals[self._team.number * _APART] = meetings
        for other in range(0, len(arrivals), _APART):
            if arrivals[other] < meetings:
                self._wait(other)
        return vector.copy()

    def _share(self, process: int, total: int) -> slice:
        return slice(total * process // self._team.size, total * (process + 1) // self._team.size)

    def _wait(self, other: int) -> None:
        arrivals, meetings = self._arrivals, self._meetings
        for _ in range(_AWAKE):
            if arrivals[other] >= meetings:
                return
        for _ in range(_YIELDING):
            os.sched_yield()
            if arrivals[other] >= meetings:
                return
        self._team.watch(lambda: arrivals[other] >= meetings)


def _counters(count: int) -> memoryview:
    """Return integers in shared memory; a view of them is quicker than an array."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("q")
