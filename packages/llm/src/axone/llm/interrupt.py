"""SIGINT and SIGTERM while training: the step is finished and saved first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from axone.llm.callbacks import Outcome

_OUTCOMES: dict[int, Outcome] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
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
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    heeded = [number for number in _OUTCOMES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt.handle) for number in heeded}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
