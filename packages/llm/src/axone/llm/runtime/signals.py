"""Deferred SIGINT and SIGTERM: a training step with its checkpoint, or the shutdown of processes, is finished first."""

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
"""The signals that ask a process to end. A terminal sends SIGINT to every process of its foreground group."""
_SAME = 1.0  # seconds: `uv run` forwards a SIGINT that the terminal has sent already


class SignalRecorder:
    """Signal handler that stores the first signal.

    Attributes
    ----------
    number : int or None
        Number of the signal; None until one arrives.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._first = 0.0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Store the first signal; a second one, more than a second later, ends the process at once."""
        if self.number is None:
            self.number, self._first = number, time.monotonic()
        elif time.monotonic() - self._first > _SAME:
            os._exit(128 + number)


@contextlib.contextmanager
def record_signals() -> Iterator[SignalRecorder]:
    """Store SIGINT and SIGTERM instead of ending the process.

    Does nothing outside the main thread, which alone may set signal handlers. Ignored signals stay ignored: a shell
    ignores SIGINT in the background jobs of a script.
    """
    recorder = SignalRecorder()
    with _handled(recorder.handle):
        yield recorder


@contextlib.contextmanager
def defer_signals(on_signal: Callable[[], None] | None = None) -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the block, and call a function as soon as one arrives.

    `pthread_sigmask` would not defer them: the kernel would deliver them to a thread of the BLAS library.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if on_signal is not None:
            on_signal()

    try:
        with _handled(note):
            yield
    finally:
        for number in received:
            signal.raise_signal(number)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Set a handler of both signals unless they are ignored, and restore the original ones."""
    originals: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # getsignal() returns None for a handler installed from C, which signal() could not restore.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    originals[number] = signal.signal(number, handler)
        yield
    finally:
        for number in reversed(originals):
            signal.signal(number, originals[number])
