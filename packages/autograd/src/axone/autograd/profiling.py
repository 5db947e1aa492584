"""How often each operation ran, how long it took and how much it returned, forward and backward.

An operation is the function that calls `record`: its forward lasts from its own call to that line, so while a profile
is open Python reports every call (`sys.setprofile`). The backward is the time in the operation's vector-Jacobian product
and in the recipes that this returns. What the engine does between operations, as adding up gradients, is in neither.
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
from axone.autograd.mode import Watcher
from axone.autograd.tape import Gradient, Node


class Measurement(NamedTuple):
    """What one operation took in one direction, all its calls together.

    Attributes
    ----------
    operation : str
        Its name.
    direction : str
        ``"forward"`` or ``"backward"``.
    calls : int
    seconds : float
    share : float
        Of the time of all operations in both directions, from 0 to 1.
    bytes : int
        The size of the arrays that it returned, views included.
    """

    operation: str
    direction: str
    calls: int
    seconds: float
    share: float
    bytes: int


class _Thread(threading.local):
    """What one thread knows of the calls that it is in."""

    starts: dict[FrameType, float]  # when each function that still runs was called
    before: list[Any]  # whom Python told of calls until then, None for nobody

    def __init__(self) -> None:
        self.starts = {}
        self.before = []


class profile(Watcher):  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Measure every operation inside, forward and backward; a context manager.

    It belongs to the thread that enters it and to the workers to which that thread hands its work, as a trainer does
    (`axone.autograd.extend.watched_alike`); their times add up. Measuring takes a few microseconds for each operation,
    and nothing where no profile is open. Entered again, it goes on counting.

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
        """Return what has been measured so far, the longest first.

        Returns
        -------
        list of Measurement
            Two for each operation that was walked back through, else one.
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

    def _entered(self) -> None:
        """Have Python tell of every call in this thread; see `Watcher`."""
        starts = self._thread.starts
        before: Any = sys.getprofile()

        def told(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                starts[frame] = perf_counter()
            elif event == "return":
                starts.pop(frame, None)
            if callable(before):
                before(frame, event, argument)

        self._thread.before.append(before)
        sys.setprofile(told)

    def _left(self) -> None:
        """Have Python tell whom it told before; see `Watcher`."""
        sys.setprofile(self._thread.before.pop())
        self._thread.starts.clear()

    def _computed(self, name: str, data: Array, _inputs: Sequence[object], node: Node | None) -> None:
        """Count a forward, and put a clock around the backward; see `Watcher`."""
        now, starts, operation = perf_counter(), self._thread.starts, sys._getframe(2)
        self._count(name, "forward", 1, now - starts.get(operation, now), data.nbytes)
        starts[operation] = now  # from here on for its next result, should it have several
        if node is None or node.vjp is None:
            return
        vjp = node.vjp

        def timed(g: Array) -> Sequence[Gradient]:
            start = perf_counter()
            parts = vjp(g)
            seconds = perf_counter() - start
            size = sum(part.nbytes for part in parts if part is not None and not isinstance(part, Deferred))
            self._count(name, "backward", 1, seconds, size)
            return [_TimedRecipe(part, count) if isinstance(part, Deferred) else part for part in parts]

        count = functools.partial(self._count, name, "backward", 0)
        node.vjp = timed

    def _count(self, name: str, direction: str, calls: int, seconds: float, size: int) -> None:
        with self._lock:
            before = self._sums.get((name, direction), (0, 0.0, 0))
            self._sums[name, direction] = before[0] + calls, before[1] + seconds, before[2] + size


class _TimedRecipe(Deferred):
    """A recipe that counts its time."""

    __slots__ = ("count", "recipe")

    def __init__(self, recipe: Deferred, count: Callable[[float, int], None]) -> None:
        self.recipe = recipe
        self.count = count

    def write(self, out: Array) -> None:
        """Carry out the recipe; see `Deferred`."""
        self._time(self.recipe.write, out)

    def add(self, out: Array) -> None:
        """Carry out the recipe; see `Deferred`."""
        self._time(self.recipe.add, out)

    def _time(self, carry_out: Callable[[Array], None], out: Array) -> None:
        start = perf_counter()
        carry_out(out)
        self.count(perf_counter() - start, out.nbytes)
