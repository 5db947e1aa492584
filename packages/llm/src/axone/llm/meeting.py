"""Where forked processes meet several times a layer: each gives a part of a vector, and has all of it when all have given.

A token of GPT-2 takes 10 ms and 49 meetings. To be woken takes a process 20 to 50 us, so here it waits awake, in memory
that all see: a meeting costs it 2. Who waits for long, because another has no core to itself, gives way and then sleeps.

Nothing here says to the processor in which order it has to write. x86 shows every process what another one wrote in the
order in which it was written [1]_, first the part and then the word that it is there; other processors do not.

References
----------
.. [1] P. Sewell et al., "x86-TSO: A Rigorous and Usable Programmer's Model for x86 Multiprocessors",
   https://www.cl.cam.ac.uk/~pes20/weakmemory/cacm.pdf
"""

from __future__ import annotations

import mmap
import os
import platform

from numpy.typing import DTypeLike

from axone.autograd.extend import Array
from axone.llm.processes import Processes, can_fork, shared_zeros

_LINE = 64  # bytes: two counters in one line of the cache would slow each other down
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
        self._arrivals = memoryview(mmap.mmap(-1, team.size * _LINE)).cast("q")  # how many meetings each came to
        self._meetings = 0

    def share(self, total: int) -> slice:
        """Return which of some things are this process's."""
        number, size = self._team.number, self._team.size
        return slice(total * number // size, total * (number + 1) // size)

    def join(self, part: Array, place: slice, total: int) -> Array:
        """Give a part of a vector, and return all of it when the others have given theirs.

        Parameters
        ----------
        part : ndarray
        place : slice
            Where it stands.
        total : int
            How many elements the vector has.

        Returns
        -------
        ndarray, shape (total,)
            Two meetings later it is another: who comes to the next one no longer needs the one before.

        Raises
        ------
        ChildProcessError
            If another process has ended.
        """
        self._meetings += 1
        vector: Array = self._vectors[self._meetings & 1, :total]
        vector[place] = part
        step, arrivals, meetings = _LINE // 8, self._arrivals, self._meetings
        arrivals[self._team.number * step] = meetings
        for other in range(0, len(arrivals), step):
            if arrivals[other] < meetings:
                self._wait(other)
        return vector

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
