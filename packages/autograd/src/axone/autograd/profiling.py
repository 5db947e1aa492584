"""Profiler: calls, time and result size of each operation, forward and backward.

An operation is the function that calls `record`. Its forward lasts from the start of that function to the call of
`record`; to know the start, the profiler is called at every function call (`sys.setprofile`). Its backward is the time
in its vector-Jacobian product and in the deferred gradients that this returns. Neither includes the engine's own work
between operations, such as adding gradients.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from types import FrameType
from typing import Any, NamedTuple

from axone.autograd.arrays import Array
from axone.autograd.deferred import Deferred
from axone.autograd.mode import Observer
from axone.autograd.tape import Gradient, Node


class Measurement(NamedTuple):
    """Total cost of all calls of one operation in one direction.

    Attributes
    ----------
    operation : str
        The operation's name.
    direction : str
        ``"forward"`` or ``"backward"``.
    calls : int
    seconds : float
    share : float
        The fraction of the time of all operations in both directions, from 0 to 1.
    bytes : int
        The size of the returned arrays, including views.
    """

    operation: str
    direction: str
    calls: int
    seconds: float
    share: float
    bytes: int


class _Thread(threading.local):
    """State of one thread."""

    starts: dict[FrameType, float]  # the start time of each running function
    previous: list[Any]  # the profile functions that were set before, to be restored; None for none

    def __init__(self) -> None:
        self.starts = {}
        self.previous = []


class profile(Observer):  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Measure every operation, forward and backward; a context manager.

    It measures the thread that enters it, and workers whose function that thread has bound to its observers, as a
    trainer does (`axone.autograd.extend.with_observers`); their times add up. Measuring takes a few microseconds per
    operation; without a profile there is no cost. Entering it again continues counting.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor, profile, tanh
    >>> w = Tensor(np.ones((64, 64)), requires_grad=True)
    >>> with profile() as measured:
    ...     tanh(w @ w).sum().backward()
    >>> sorted((m.operation, m.direction, m.calls) for m in measured.measurements())[:2]
    [('matmul', 'backward', 1), ('matmul', 'forward', 1)]
    >>> text = str(measured)  # as `table` returns it
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str], tuple[int, float, int]] = {}  # calls, seconds, bytes
        self._thread = _Thread()

    def measurements(self) -> list[Measurement]:
        """Return the measurements so far, the longest first.

        Returns
        -------
        list of Measurement
            Two for each operation with a backward, otherwise one.
        """
        with self._lock:
            sums = dict(self._sums)
        total = sum(seconds for _, seconds, _ in sums.values()) or 1.0
        rows = [Measurement(*key, calls, time, time / total, size) for key, (calls, time, size) in sums.items()]
        return sorted(rows, key=lambda row: row.seconds, reverse=True)

    def table(self) -> str:
        """Return the measurements as text: calls, milliseconds, shares, and megabytes of results.

        Returns
        -------
        str
        """
        rows = self.measurements()
        wide = max(map(len, ["operation", *(row.operation for row in rows)]))
        lines = [f"{'operation':{wide}}  {'direction':9}{'calls':>8}{'ms':>12}{'share':>8}{'MB':>11}"]
        for name, direction, calls, seconds, share, size in rows:
            lines.append(f"{name:{wide}}  {direction:9}{calls:8}{seconds * 1e3:12.3f}{share:8.1%}{size / 1e6:11.2f}")
        calls, seconds, size = (sum(getattr(row, column) for row in rows) for column in ("calls", "seconds", "bytes"))
        lines.append(f"{'all':{wide}}  {'':9}{calls:8}{seconds * 1e3:12.3f}{'':8}{size / 1e6:11.2f}")
        return "\n".join(lines)

    __str__ = table

    def _on_enter(self) -> None:
        """Set a profile function that notes the start time of every call in this thread; see `Observer`."""
        starts = self._thread.starts
        previous: Any = sys.getprofile()

        def note_start(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                starts[frame] = perf_counter()
            elif event == "return":
                starts.pop(frame, None)
            if callable(previous):
                previous(frame, event, argument)

        self._thread.previous.append(previous)
        sys.setprofile(note_start)

    def _on_exit(self) -> None:
        """Restore the previous profile function; see `Observer`."""
        sys.setprofile(self._thread.previous.pop())
        self._thread.starts.clear()

    def _on_operation(self, name: str, data: Array, _inputs: Sequence[object], node: Node | None) -> None:
        """Count a forward, and wrap the vector-Jacobian product to time the backward; see `Observer`."""
        now, starts, operation = perf_counter(), self._thread.starts, sys._getframe(2)
        self._count(name, "forward", 1, now - starts.get(operation, now), data.nbytes)
        starts[operation] = now  # an operation with several results records each: the next one starts here
        if node is None or node.vjp is None:
            return
        vjp = node.vjp

        def timed(g: Array) -> Sequence[Gradient]:
            start = perf_counter()
            parts = vjp(g)
            seconds = perf_counter() - start
            size = sum(part.nbytes for part in parts if part is not None and not isinstance(part, Deferred))
            self._count(name, "backward", 1, seconds, size)
            return [_TimedGradient(part, count) if isinstance(part, Deferred) else part for part in parts]

        count = functools.partial(self._count, name, "backward", 0)
        node.vjp = timed

    def _count(self, name: str, direction: str, calls: int, seconds: float, size: int) -> None:
        with self._lock:
            total = self._sums.get((name, direction), (0, 0.0, 0))
            self._sums[name, direction] = total[0] + calls, total[1] + seconds, total[2] + size


class _TimedGradient(Deferred):
    """A deferred gradient that measures its own computation."""

    __slots__ = ("count", "gradient")

    def __init__(self, gradient: Deferred, count: Callable[[float, int], None]) -> None:
        self.gradient = gradient
        self.count = count

    def write(self, out: Array) -> None:
        """Compute the gradient into `out`; see `Deferred`."""
        self._time(self.gradient.write, out)

    def add(self, out: Array) -> None:
        """Add the gradient to `out`; see `Deferred`."""
        self._time(self.gradient.add, out)

    def _time(self, compute: Callable[[Array], None], out: Array) -> None:
        start = perf_counter()
        compute(out)
        self.count(perf_counter() - start, out.nbytes)
