"""SIGINT and SIGTERM: what must not be cut short is finished first, a step and its checkpoint, or the end of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

Outcome = Literal["interrupted", "terminated"]
_OUTCOMES: dict[int, Outcome] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
SIGNALS = tuple(_OUTCOMES)
"""Those that ask a program to end; a terminal sends them to all its processes."""
_SAME = 1.0  # seconds: a signal to a group of processes can arrive twice


class Interrupt:
    """What has been asked for since training began.

    Attributes
    ----------
    outcome : {"interrupted", "terminated"} or None
    """

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._first = 0.0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note the first signal; a second one, more than a second later, ends the process at once."""
        if self.outcome is None:
            self.outcome, self._first = _OUTCOMES[number], time.monotonic()
        elif time.monotonic() - self._first > _SAME:
            os._exit(128 + number)


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Interrupt]:
    """Note SIGINT and SIGTERM instead of dying of them; only in the main thread, which alone may handle signals.

    What is ignored, as SIGINT is in the background of a script, stays ignored.
    """
    interrupt = Interrupt()
    with _handled(interrupt.handle):
        yield interrupt


@contextlib.contextmanager
def held_interrupts(then: Callable[[], None] | None = None) -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for a while, and call a function when one comes.

    To block them would not do: they would come by way of the threads of the library behind NumPy's products.
    """
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if then is not None:
            then()

    try:
        with _handled(note):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a function called on signals that are not ignored, in the main thread, to which alone they come."""
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # None, not Python's, could not be put back
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number in reversed(before):
            signal.signal(number, before[number])
