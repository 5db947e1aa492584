"""Forked processes that carry out one program together, each a part of every piece of work.

Threads that compute small arrays wait for the interpreter lock again and again; processes have one each. As they are
forked they have the model, the data and the program, whatever these are. From then on only method names, numbers and
what the parts returned go from one to the other, as JSON; arrays that all shall see are made by `shared_zeros` before.

Each process carries out the whole program and leaves out only the parts of the others: what is decided between the
parts must follow from the arguments and from what the parts returned.

References
----------
.. [1] Linux man-pages, "fork(2)", https://man7.org/linux/man-pages/man2/fork.2.html
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd.extend import is_observed
from axone.llm.runtime import resources
from axone.llm.runtime.signals import SIGNALS, defer_signals
from axone.llm.runtime.threads import Outcome, results, run_one

R = TypeVar("R")


def can_fork() -> bool:
    """Return whether forked processes may replace threads: on Linux, without another thread, outside of a profile."""
    return sys.platform == "linux" and threading.active_count() == 1 and not is_observed()


def shared_zeros(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros that stays one and the same in processes that are forked later."""
    dtype = np.dtype(dtype)
    return np.frombuffer(mmap.mmap(-1, max(size * dtype.itemsize, 1)), dtype, size)


class ProcessGroup:
    """Some processes, this one among them, as a context manager.

    Parameters
    ----------
    world_size : int
        How many parts are worked on at once, this process's included.

    Attributes
    ----------
    world_size : int
    rank : int
        Of this process: 0 of the one that forks the others.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.rank = 0
        self._others: list[_Peer] = []  # here, all that were forked; there, only the one it was forked from
        self._stop = mmap.mmap(-1, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other processes; new ones may be forked.

        They finish what they are at. An interrupt ends them at once, and is raised when they are gone.
        """
        try:
            self._end()
        finally:
            self._end()  # an interrupt may have come before it was held back

    def _end(self) -> None:
        if not self._others:
            return
        with defer_signals(self._kill):
            for peer in self._others:
                peer.close()
            for peer in self._others:  # they may still write to what the caller will let go
                peer.wait()
            self._others = []

    def _kill(self) -> None:
        for peer in self._others:
            peer.kill()

    def start(self, program: object) -> None:
        """Fork the other processes, which copies whatever they do not share; `broadcast_call` does it if need be."""
        if not self._others:
            self._fork(program)

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Let the other processes call a method as the caller does now.

        Parameters
        ----------
        program : object
            The same each time.
        method : str
        *arguments : object
            Numbers, text, lists and arrays.
        """
        if self.rank:
            return
        self._stop[0] = 0
        self.start(program)
        for peer in self._others:
            peer.send([method, *arguments])

    def private_memory(self) -> int:
        """Return what the other processes hold besides what they share, in bytes; zero where the platform does not tell."""
        return sum(resources.private_memory(peer.process) for peer in self._others if peer.process is not None)

    def any(self, stop: Callable[[], bool]) -> bool:
        """Tell whether `stop`, which only the first process needs to know, has said so in one of them."""
        if stop():
            self._stop[0] = 1
        return bool(self._stop[0])

    def run(self, parts: Sequence[Callable[[], R]]) -> list[R]:
        """Carry out this process's part, wait for the others, and return what all parts return.

        Parameters
        ----------
        parts : sequence of callable
            At most one for each process, in all of them the same ones; they return what JSON can hold.

        Raises
        ------
        Exception
            The first part's that raised one. From another process it comes as its type and its sentence.
        ChildProcessError
            If a process has ended.
        """
        try:
            own = run_one(parts[self.rank]) if self.rank < len(parts) else (None, None)
            return self._exchange(own)[: len(parts)]
        except BaseException:  # they no longer agree on what is next: new ones may be forked
            self.close()
            raise

    def poll(self, done: Callable[[], bool]) -> None:
        """Sleep, a millisecond at a time, until what other processes do without a word is done.

        Raises
        ------
        Exception
            If a process fails or ends instead.
        """
        poller = select.poll()
        for peer in self._others:
            poller.register(peer, select.POLLIN)
        while not done():
            spoken = {descriptor for descriptor, _ in poller.poll(1)}
            if not done():  # else it may be what comes next
                results([_unpacked(peer.receive()) for peer in self._others if peer.fileno() in spoken])

    def spin_wait(self, seconds: float) -> None:
        """Stay awake until another process speaks, if it does so soon: one that sleeps is some 50 us late."""
        poller = select.poll()
        for peer in self._others:
            poller.register(peer, select.POLLIN)
        end = time.perf_counter() + seconds
        while not poller.poll(0) and time.perf_counter() < end:
            pass

    def _exchange(self, own: Outcome) -> list[Any]:
        """Return what all processes' parts returned; the first collects it."""
        if own[1] is not None and not isinstance(own[1], Exception):  # an interrupt, which waits for nobody
            raise own[1]
        if self.rank:
            self._others[0].send(_packed(own))
            values: list[Any] = self._others[0].receive()
        else:
            values = results([own, *(_unpacked(peer.receive()) for peer in self._others)])
            for peer in self._others:
                peer.send(values)
        return values

    def _fork(self, program: object) -> None:
        for rank in range(1, self.world_size):
            with defer_signals():  # here until the process is known, so that it can be ended; there for good
                here, there = socket.socketpair()
                for end in (here, there):
                    end.setblocking(True)  # whatever the program has set for its own
                try:
                    process = os.fork()
                except OSError:  # there are too many
                    here.close()
                    there.close()
                    raise
                if not process:
                    here.close()
                    for peer in self._others:
                        peer.close()
                    self.rank = rank
                    self._others = [_Peer(there)]
                    _serve(self._others[0], program)
                there.close()
                self._others.append(_Peer(here, process))


class _Peer:
    """Another process: what it says and hears, a JSON value a line.

    A socket and not a pipe, for it can be shut down: a process that someone else forks meanwhile holds a copy.

    Parameters
    ----------
    connection : socket
    process : int, optional
        Its number; None of the one that forked this.
    """

    def __init__(self, connection: socket.socket, process: int | None = None) -> None:
        self._socket = connection
        self.lines = connection.makefile("rb")
        self.process = process
        self._here = os.getpid()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: object) -> None:
        try:
            self._socket.sendall(json.dumps(message, default=_array_to_json).encode() + b"\n")
        except ConnectionError:
            raise self._ended() from None

    def receive(self) -> Any:
        try:
            line = self.lines.readline()
        except ConnectionError:  # it ended without having read all
            line = b""
        if not line:
            raise self._ended()
        return json.loads(line, object_hook=_array_from_json)

    def close(self) -> None:
        if os.getpid() == self._here:  # and not a copy of this process, which lets go of what is not its own
            with contextlib.suppress(OSError):  # it has ended already
                self._socket.shutdown(socket.SHUT_RDWR)
        self.lines.close()
        self._socket.close()

    def wait(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.process, 0)
            self.process = None

    def kill(self) -> None:
        if self.process is not None and os.getpid() == self._here:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def _ended(self) -> ChildProcessError:
        return ChildProcessError(
            f"all worker processes are needed, and process {self.process} has ended, perhaps for want of memory: "
            "resume the run from its last checkpoint"
        )


def _serve(leader: _Peer, program: object) -> NoReturn:
    """Call the methods that are told, until whoever tells them is gone or something fails; never return."""
    status = 1
    try:
        for number in SIGNALS:  # the first process decides
            signal.signal(number, signal.SIG_IGN)
        gc.freeze()  # what was here before is the first process's to clean up
        for last, following in itertools.pairwise((2, leader.fileno(), os.sysconf("SC_OPEN_MAX"))):
            os.closerange(last + 1, following)  # the locks and sockets of the first process
        for line in leader.lines:
            method, *arguments = json.loads(line, object_hook=_array_from_json)
            getattr(program, method)(*arguments)
        status = 0
    except Exception as error:  # noqa: BLE001 - raised again where the outcome is awaited
        with contextlib.suppress(BaseException):  # nobody awaits it who has failed in the same way
            leader.send(_packed((None, error)))
    finally:
        os._exit(status)


def _array_to_json(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "values": array.tolist()}


def _array_from_json(fields: dict[str, Any]) -> NDArray[Any]:
    return np.asarray(fields["values"], fields["dtype"])


_Packed: TypeAlias = tuple[Any, list[str] | None]
_SENTENCES: tuple[object, ...] = (BaseException.__str__, OSError.__str__)


def _packed(outcome: Outcome) -> _Packed:
    value, error = outcome
    if error is None:
        return value, None
    # The nearest class that says its sentence and nothing else, which can be made of the sentence alone.
    plain = next(kind for kind in type(error).__mro__ if kind.__str__ in _SENTENCES)
    return None, [plain.__module__, plain.__qualname__, str(error)]


def _unpacked(packed: _Packed) -> Outcome:
    value, fault = packed
    if fault is None:
        return value, None
    module, name, sentence = fault
    kind = getattr(sys.modules[module], name, RuntimeError)
    error: BaseException = kind.__new__(kind, sentence)
    return None, error
