"""SIGINT and SIGTERM: what must not be cut short is finished first, a step and its checkpoint, or the end of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = signal.SIGINT, signal.SIGTERM
"""The signals that ask a program to end. A terminal sends SIGINT to all its processes."""
_SAME = 1.0  # seconds: a signal to a group of processes can arrive twice


class SignalRecorder:
    """Handler that stores the first signal.

    Attributes
    ----------
    number : int or None
        The signal's number; None as long as none has arrived.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._first = 0.0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Store the first signal; a second one, more than a second later, exits the process at once."""
        if self.number is None:
            self.number, self._first = number, time.monotonic()
        elif time.monotonic() - self._first > _SAME:
            os._exit(128 + number)


@contextlib.contextmanager
def record_signals() -> Iterator[SignalRecorder]:
    """Note SIGINT and SIGTERM instead of dying of them; only in the main thread, which alone may handle signals.

    What is ignored, as SIGINT is in the background of a script, stays ignored.
    """
    recorder = SignalRecorder()
    with _handled(recorder.handle):
        yield recorder


@contextlib.contextmanager
def defer_signals(then: Callable[[], None] | None = None) -> Iterator[None]:
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
