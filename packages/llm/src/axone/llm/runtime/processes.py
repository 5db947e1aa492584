"""Forked process group: every rank runs the same program and computes its own part of each task.

Threads that compute small arrays wait for the interpreter lock; each process has its own. A forked rank inherits the
model, the data and the program. After the fork only method names, arguments and results travel, as lines of JSON over
sockets; arrays that all ranks write to are allocated by `shared_zeros` before.

Every rank runs the whole program and leaves out only the tasks of other ranks. So control flow must depend on arguments
and on gathered results alone.

References
----------
.. [1] Linux man-pages, "fork(2)", https://man7.org/linux/man-pages/man2/fork.2.html
.. [2] Linux man-pages, "PR_SET_PDEATHSIG(2const)", https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import itertools
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd.extend import is_observed
from axone.llm.runtime import resources
from axone.llm.runtime.connection import Connection, decode, pack, unpack
from axone.llm.runtime.signals import SIGNALS, defer_signals
from axone.llm.runtime.threads import Result, run_one, values

R = TypeVar("R")

_PR_SET_PDEATHSIG = 1


def can_fork() -> bool:
    """Return whether processes may replace threads: on Linux, without other threads, profile, anomaly detection or MPI.

    A fork marks the pages that a network card reads from as copy-on-write, which corrupts messages of MPI.
    """
    alone = threading.active_count() == 1 and "mpi4py.MPI" not in sys.modules
    return sys.platform == "linux" and alone and not is_observed()


def shared_zeros(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros in memory that processes forked later share.

    Raises
    ------
    MemoryError
        If the system does not grant the memory.
    """
    dtype = np.dtype(dtype)
    try:
        memory = mmap.mmap(-1, max(size * dtype.itemsize, 1))
    except OSError as error:
        raise MemoryError(f"{size * dtype.itemsize} bytes of shared memory are not available") from error
    return np.frombuffer(memory, dtype, size)


class ProcessGroup:
    """Processes that run one program together, as a context manager; the one that forks the others is rank 0.

    Parameters
    ----------
    world_size : int
        Number of processes, with this one.

    Attributes
    ----------
    world_size : int
    rank : int
        Rank of this process.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.rank = 0
        self._peers: list[Connection] = []  # rank 0: all other ranks; any other rank: rank 0 alone
        self._any = mmap.mmap(-1, 1)
        # Ends the processes if `close` was never reached, as after a KeyboardInterrupt at the first line of `__exit__`.
        weakref.finalize(self, _kill, self._peers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other processes; the group may fork new ones later.

        They finish their tasks first. SIGINT and SIGTERM kill them, and are raised when all have ended.
        """
        try:
            self._end()
        finally:
            self._end()  # a signal may have arrived before it was deferred

    def _end(self) -> None:
        if not self._peers:
            return
        with defer_signals(self._kill):
            for peer in self._peers:
                peer.close()
            for peer in self._peers:  # until then they may write to arrays that the caller frees next
                peer.wait()
            self._peers.clear()

    def _kill(self) -> None:
        for peer in self._peers:
            peer.kill()

    def start(self, program: object) -> None:
        """Fork the other processes unless they run already, with a copy of all memory that is not shared.

        Raises
        ------
        OSError
            If the system refuses to fork; no other process is left.
        """
        if not self._peers:
            try:
                self._fork(program)
            except OSError:
                self.close()
                raise

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Let the other ranks call a method that rank 0 calls now; in other ranks, do nothing.

        Parameters
        ----------
        program : object
            The same in each call: it is copied when the processes are forked.
        method : str
        *arguments : object
            Numbers, text, lists and arrays.
        """
        if self.rank:
            return
        self._any[0] = 0
        self.start(program)
        for peer in self._peers:
            peer.send([method, *arguments])

    def call_failed(self, error: BaseException) -> None:
        """Do nothing: `run` has sent the error to the other ranks."""

    def private_memory(self) -> int:
        """Return the bytes that other ranks hold and do not share; 0 where the platform does not report it."""
        return sum(resources.private_memory(peer.process) for peer in self._peers if peer.process is not None)

    def any(self, condition: Callable[[], bool]) -> bool:
        """Return whether the condition has been true in any rank since the last broadcast call."""
        if condition():
            self._any[0] = 1
        return bool(self._any[0])

    def run(self, tasks: Sequence[Callable[[], R]]) -> list[R]:
        """Run the task of this rank, and gather the results of all ranks.

        Parameters
        ----------
        tasks : sequence of callable
            At most one per rank, the same ones in all ranks. They return values that JSON can represent.

        Raises
        ------
        Exception
            The error of the first task that raised one. The error of another rank has the same type and message.
        ChildProcessError
            If a process has ended.
        """
        try:
            own = run_one(tasks[self.rank]) if self.rank < len(tasks) else (None, None)
            return self._all_gather(own)[: len(tasks)]
        except BaseException:  # the ranks are no longer at the same line of the program
            self.close()
            raise

    def poll(self, done: Callable[[], bool]) -> None:
        """Sleep, a millisecond at a time, until a condition holds that other ranks make true through shared memory.

        Raises
        ------
        Exception
            If a rank fails or ends instead.
        """
        poller = self._poller()
        while not done():
            readable = {descriptor for descriptor, _ in poller.poll(1)}
            if not done():  # otherwise the message may belong to the next task
                values([unpack(peer.receive()) for peer in self._peers if peer.fileno() in readable])

    def spin_wait(self, seconds: float) -> None:
        """Spin until the next message arrives, at most for some time: a sleeping process wakes up some 50 us late."""
        poller = self._poller()
        end = time.perf_counter() + seconds
        while not poller.poll(0) and time.perf_counter() < end:
            pass

    def _poller(self) -> select.poll:
        poller = select.poll()
        for peer in self._peers:
            poller.register(peer, select.POLLIN)
        return poller

    def _all_gather(self, own: Result) -> list[Any]:
        """Return the values of all ranks: rank 0 gathers and broadcasts them."""
        if own[1] is not None and not isinstance(own[1], Exception):  # KeyboardInterrupt does not wait for other ranks
            raise own[1]
        if self.rank:
            self._peers[0].send(pack(own))
            gathered: list[Any] = self._peers[0].receive()
        else:
            gathered = values([own, *(unpack(peer.receive()) for peer in self._peers)])
            for peer in self._peers:
                peer.send(gathered)
        return gathered

    def _fork(self, program: object) -> None:
        parent = os.getpid()
        _prctl()
        for rank in range(1, self.world_size):
            # Parent: defer signals until the child's pid is stored, so that it can be killed. Child: for good.
            with defer_signals():
                here, there = socket.socketpair()
                for end in (here, there):
                    end.setblocking(True)  # whatever socket.setdefaulttimeout says
                try:
                    process = os.fork()
                except OSError:
                    here.close()
                    there.close()
                    raise
                if not process:
                    here.close()
                    for peer in self._peers:
                        peer.close()
                    self.rank = rank
                    self._peers = [Connection(there)]
                    _serve(self._peers[0], program, parent)
                there.close()
                self._peers.append(Connection(here, process))


def _kill(peers: list[Connection]) -> None:
    for peer in peers:
        peer.kill()
        peer.close()
        peer.wait()
    peers.clear()


def _serve(leader: Connection, program: object, parent: int) -> NoReturn:
    """Call the methods that rank 0 broadcasts, until it closes the connection or a call fails; never return."""
    status = 1
    try:
        for number in SIGNALS:  # rank 0 handles them
            signal.signal(number, signal.SIG_IGN)
        _end_with(parent)
        gc.freeze()  # the finalizers of inherited objects are rank 0's to run
        for last, following in itertools.pairwise((2, leader.fileno(), os.sysconf("SC_OPEN_MAX"))):
            os.closerange(last + 1, following)  # inherited locks and sockets of rank 0
        for line in leader.lines:
            method, *arguments = decode(line)
            getattr(program, method)(*arguments)
        status = 0
    except Exception as error:  # noqa: BLE001 - rank 0 raises it again
        with contextlib.suppress(BaseException):  # rank 0 does not receive it if it has failed in the same way
            leader.send(pack((None, error)))
    finally:
        os._exit(status)


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends.

    Otherwise a process notices a killed parent at the end of its task, which is 14 s with long accumulation.
    """
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)


@functools.cache
def _prctl() -> Any:
    """Return the C library's prctl, or None where it has none."""
    return getattr(ctypes.CDLL(None), "prctl", None)
