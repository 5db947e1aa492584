"""Communicator over MPI: the only module that imports mpi4py.

Two kinds of operations. Small values travel through non-blocking collectives that are polled: a rank that waits for long
sleeps between polls, so that it takes no core from the ranks of its machine that compute, and it notices that a rank has
left the job. Arrays travel through blocking collectives, in chunks that fit the caches; `DataParallel` synchronizes all
ranks before, so that no rank waits there for a computation.

A rank that ends its process announces that, and waits for rank 0. A rank that waits for one that has left aborts the job.

References
----------
.. [1] L. Dalcin, Y.-L. Fang, "mpi4py: Status Update After 12 Years of Development",
   https://doi.org/10.1109/MCSE.2021.3083216
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from axone.llm.runtime.communicator import Flat
from axone.llm.runtime.connection import decode, encode

if TYPE_CHECKING:
    from mpi4py.MPI import Request

CHUNK = 1 << 20
"""Elements of an array that are exchanged at once: MPI allocates buffers of this size, not of the model's."""

_SLOT = 256  # bytes of a message that need no second one
_SPIN = 2e-3  # seconds of polling without sleep: sleeping adds some 50 us
_LONGEST_SLEEP = 1e-3
_ARRIVES_WITHIN = 3.0  # seconds: messages of a rank that has left
_LEAVES = 1  # tag of the message of a rank that ends its process
_PART = 2  # tag of a chunk


class MPICommunicator:
    """Communicator of the processes that mpiexec or Slurm has started. Making one initializes MPI.

    Attributes
    ----------
    rank, world_size : int
    default_workers : int or None
    waiting, communicating : float
        As `Communicator`.
    """

    def __init__(self) -> None:
        from mpi4py import MPI  # initializes MPI, after which no process may be forked

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank = self._comm.Get_rank()
        self.world_size = self._comm.Get_size()
        self.default_workers: int | None = None
        self.waiting = self.communicating = 0.0
        self._slot = np.zeros(_SLOT, np.uint8)
        self._slots = np.zeros((self.world_size, _SLOT), np.uint8)
        atexit.register(self._leave)

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""
        slot = self._slot
        text = encode(value) if self.rank == 0 else b""
        if self.rank == 0:
            _write_slot(slot, text)
        self._wait(self._comm.Ibcast(slot, 0))
        size = _size(slot)
        if size <= _SLOT - 4:
            return decode(slot[4 : 4 + size].tobytes())
        content = np.frombuffer(bytearray(text), np.uint8) if self.rank == 0 else np.empty(size, np.uint8)
        self._wait(self._comm.Ibcast(content, 0))
        return decode(content.tobytes())

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank."""
        text = encode(value)
        _write_slot(self._slot, text)
        self._wait(self._comm.Iallgather(self._slot, self._slots))
        sizes = [_size(slot) for slot in self._slots]
        if max(sizes) <= _SLOT - 4:
            return [decode(slot[4 : 4 + size].tobytes()) for slot, size in zip(self._slots, sizes, strict=True)]
        content = np.empty(sum(sizes), np.uint8)
        own = np.frombuffer(bytearray(text), np.uint8)
        self._wait(self._comm.Iallgatherv(own, [content, sizes]))
        ends = np.cumsum([0, *sizes]).tolist()
        return [decode(content[start:stop].tobytes()) for start, stop in pairwise(ends)]

    def barrier(self) -> None:
        """Wait until all ranks have called this method."""
        self._wait(self._comm.Ibarrier())

    def broadcast_array(self, array: Flat) -> None:
        """Overwrite a contiguous array with that of rank 0."""
        self.barrier()
        with self._timed():
            for first in range(0, array.size, CHUNK):
                self._comm.Bcast(array[first : first + CHUNK], 0)

    def all_reduce(self, array: Flat) -> None:
        """Overwrite a contiguous array with the sum over all ranks."""
        with self._timed():
            for first in range(0, array.size, CHUNK):
                self._comm.Allreduce(self._mpi.IN_PLACE, array[first : first + CHUNK])

    def reduce_scatter(self, array: Flat, bounds: Sequence[int]) -> None:
        """Overwrite this rank's shard of an array with the sum of that shard over all ranks."""
        width = max(CHUNK // self.world_size, 1)
        longest = max(stop - start for start, stop in pairwise(bounds))
        with self._timed():
            for first in range(0, longest, width):  # a piece of every shard at once
                pieces = [
                    slice(min(start + first, stop), min(start + first + width, stop))
                    for start, stop in pairwise(bounds)
                ]
                sent = np.concatenate([array[piece] for piece in pieces])
                counts = [piece.stop - piece.start for piece in pieces]
                self._comm.Reduce_scatter(sent, array[pieces[self.rank]], counts)

    def all_gather_shards(self, array: Flat, bounds: Sequence[int]) -> None:
        """Overwrite all shards of an array with those of their ranks."""
        counts = [stop - start for start, stop in pairwise(bounds)]
        with self._timed():
            self._comm.Allgatherv(self._mpi.IN_PLACE, [array, (counts, list(bounds[:-1]))])

    def gather_chunks(self, part: Flat, sizes: Sequence[int]) -> Iterator[Flat]:
        """Yield the parts of all ranks in rank 0, by rank and chunk by chunk; yield nothing elsewhere."""
        if self.rank:
            for first in range(0, part.size, CHUNK):
                self._wait(self._comm.Isend(part[first : first + CHUNK], 0, _PART))
            return
        chunk = np.empty(min(CHUNK, max(sizes)), part.dtype)
        left = [(rank, min(CHUNK, size - first)) for rank, size in enumerate(sizes) for first in range(0, size, CHUNK)]
        left = [item for item in left if item[0]]
        try:
            yield part
            while left:
                rank, count = left.pop(0)
                self._comm.Recv(chunk[:count], rank, _PART)
                yield chunk[:count]
        finally:
            for rank, count in left:
                self._comm.Recv(chunk[:count], rank, _PART)

    def abort(self, message: str) -> NoReturn:
        """Write a message to standard error, and end all processes of the job."""
        with contextlib.suppress(OSError, ValueError):
            print(message, file=sys.__stderr__, flush=True)
        self._comm.Abort(1)
        os._exit(1)  # not reached: Abort does not return

    def _wait(self, request: Request) -> None:
        """Poll a request until it is complete; abort if it is not, some seconds after a rank has left.

        A rank may leave when its own part of an operation is complete, while messages to other ranks are on their way.
        """
        began, left = time.perf_counter(), None
        while not request.Test():
            now = time.perf_counter()
            if now - began > _SPIN:
                if left is None and self._comm.Iprobe(self._mpi.ANY_SOURCE, _LEAVES):
                    left = now
                if left is not None and now - left > _ARRIVES_WITHIN:
                    self._abort_after_leaving()
                time.sleep(min((now - began) / 50, _LONGEST_SLEEP))
            elif hasattr(os, "sched_yield"):
                os.sched_yield()
        self.waiting += time.perf_counter() - began

    def _abort_after_leaving(self) -> NoReturn:
        status = self._mpi.Status()
        self._comm.Probe(self._mpi.ANY_SOURCE, _LEAVES, status)
        self.abort(f"rank {status.Get_source()} has left the job while rank {self.rank} waits for it: the job ends")

    def _leave(self) -> None:
        """Announce the end of this process, wait for rank 0, and finalize MPI.

        mpi4py would abort the job, with lines of its own, for every exit status other than 0.
        """
        if self._mpi.Is_finalized():
            return
        peers = [0] if self.rank else range(1, self.world_size)
        empty = np.empty(0, np.uint8)
        for peer in peers:
            self._comm.Isend(empty, peer, _LEAVES).Free()
        for peer in peers:
            while not self._comm.Iprobe(peer, _LEAVES):
                time.sleep(_LONGEST_SLEEP)
            self._comm.Recv(empty, peer, _LEAVES)
        self._mpi.Finalize()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.communicating += time.perf_counter() - began


def _write_slot(slot: np.ndarray[Any, np.dtype[np.uint8]], text: bytes) -> None:
    """Write the length of a text and the text, if it fits."""
    slot[:4] = np.frombuffer(len(text).to_bytes(4, "little"), np.uint8)
    if len(text) <= _SLOT - 4:
        slot[4 : 4 + len(text)] = np.frombuffer(text, np.uint8)


def _size(slot: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    return int.from_bytes(slot[:4].tobytes(), "little")
