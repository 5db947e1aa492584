"""Connection between two ranks: a JSON value per line over a socket.

No pickle: a line holds numbers, text, lists, objects and arrays, and an error travels as the name of its class and its
message.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.runtime.threads import Result

_REAPED_WITHIN = 1.0  # seconds: the kernel closes the sockets of a process shortly before its parent may reap it


class Connection:
    """Connection to another rank, which sends and receives a JSON value per line.

    A socket can be shut down, unlike a pipe: a process that the caller forks meanwhile inherits a copy.

    Parameters
    ----------
    connection : socket
    process : int, optional
        Process id of the other rank; None for rank 0.
    """

    def __init__(self, connection: socket.socket, process: int | None = None) -> None:
        self._socket = connection
        self.lines = connection.makefile("rb")
        self.process = process
        self._owner = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor of the socket, for `select`."""
        return self._socket.fileno()

    def send(self, message: object) -> None:
        """Send a value; ChildProcessError if the other rank has ended."""
        try:
            self._socket.sendall(encode(message) + b"\n")
        except ConnectionError:
            raise self._ended() from None

    def receive(self) -> Any:
        """Wait for the next value and return it; ChildProcessError if the other rank has ended."""
        try:
            line = self.lines.readline()
        except ConnectionError:  # the other rank has ended without reading all messages
            line = b""
        if not line:
            raise self._ended()
        return decode(line)

    def close(self) -> None:
        """Shut the connection down: the other rank ends when it has finished its task."""
        if os.getpid() == self._owner:  # in a fork of this process, the connection is still the owner's
            with contextlib.suppress(OSError):  # the other rank has ended already
                self._socket.shutdown(socket.SHUT_RDWR)
        self.lines.close()
        self._socket.close()

    def wait(self) -> None:
        """Wait until the other process has ended, and reap it."""
        if self.process is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.process, 0)
            self.process = None

    def kill(self) -> None:
        """Send SIGKILL to the other process."""
        if self.process is not None and os.getpid() == self._owner:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def _ended(self) -> ChildProcessError:
        name = "rank 0" if self.process is None else f"worker process {self.process}"
        return ChildProcessError(f"{name} {self._exit_cause()}")

    def _exit_cause(self) -> str:
        """Return how the other process ended, and reap it."""
        end = time.monotonic() + _REAPED_WITHIN
        while self.process is not None and time.monotonic() < end:
            try:
                reaped, status = os.waitpid(self.process, os.WNOHANG)
            except ChildProcessError:  # the program ignores SIGCHLD, or has reaped it itself
                break
            if reaped:
                self.process = None
                code = os.waitstatus_to_exitcode(status)
                if code >= 0:
                    return f"exited with status {code}"
                hint = ", perhaps because memory is exhausted: use fewer workers" if code == -signal.SIGKILL else ""
                return f"was killed by {signal.Signals(-code).name}{hint}"
            time.sleep(1e-3)
        return "ended"


_Packed: TypeAlias = tuple[Any, list[str] | None]
_DEFAULT_STR: tuple[object, ...] = (BaseException.__str__, OSError.__str__)


def pack(result: Result) -> _Packed:
    """Return a result as JSON can represent it."""
    value, error = result
    if error is None:
        return value, None
    # First class in the MRO with the default `__str__`: it can be rebuilt from the message alone.
    plain = next(kind for kind in type(error).__mro__ if kind.__str__ in _DEFAULT_STR)
    return None, [plain.__module__, plain.__qualname__, str(error)]


def unpack(packed: _Packed) -> Result:
    """Return the result that another rank has packed."""
    value, fault = packed
    if fault is None:
        return value, None
    module, name, message = fault
    kind = getattr(sys.modules[module], name, RuntimeError)
    error: BaseException = kind.__new__(kind, message)
    return None, error


def _array_to_json(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": array.shape, "values": array.ravel().tolist()}


def _array_from_json(fields: dict[str, Any]) -> Any:
    if fields.keys() != {"dtype", "shape", "values"}:
        return fields
    return np.asarray(fields["values"], fields["dtype"]).reshape(fields["shape"])


def encode(message: object) -> bytes:
    """Return a value as JSON on one line."""
    return json.dumps(message, default=_array_to_json).encode()


def decode(line: bytes) -> Any:
    """Return the value of a line."""
    return json.loads(line, object_hook=_array_from_json)
