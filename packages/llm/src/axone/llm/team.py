"""Threads that do parts of one piece of work side by side, with the caller among them.

A part is handed over through a queue that is written in C, and the caller takes a part itself: that is several times
quicker than a pool of futures, which a training step of a few milliseconds feels. The parts belong to the caller: who
watches its operations watches theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from axone.autograd.extend import watched_alike
from axone.llm.platform import kept_memory

R = TypeVar("R")


class Team:
    """Some threads, as a context manager.

    Parameters
    ----------
    size : int
        How many parts are worked on at once, the caller's included.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._helpers = [_Helper(number) for number in range(1, size)]

    def __enter__(self) -> Self:
        for helper in self._helpers:
            helper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.parts.put(None)
        for helper in self._helpers:
            helper.join()

    def run(self, parts: Sequence[Callable[[], R]]) -> list[R]:
        """Carry out every part, and return what they return when all have ended.

        Parameters
        ----------
        parts : sequence of callable
            At most one for each thread; the caller carries out the first.

        Raises
        ------
        Exception
            The first part's that raised one, after all have ended.
        """
        helpers = self._helpers[: len(parts) - 1]
        for helper, part in zip(helpers, parts[1:], strict=True):
            helper.parts.put(watched_alike(part))
        outcomes: list[Outcome] = []
        try:
            outcomes.append(carry_out(parts[0]))
        finally:  # also if the caller is interrupted: the others may still write to what it will let go
            outcomes += [helper.outcomes.get() for helper in helpers]
        return results(outcomes)

    def asked(self, stop: Callable[[], bool]) -> bool:
        """Tell whether `stop` says so: threads all know it."""
        return stop()


Outcome: TypeAlias = tuple[Any, Exception | None]
"""What a part returned, and what it raised."""


class _Helper(Thread):
    """One thread: carries out what is put into `parts`, until that is None."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"axone-worker-{number}", daemon=True)
        self.parts: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def run(self) -> None:
        with kept_memory():
            while (part := self.parts.get()) is not None:
                self.outcomes.put(carry_out(part))
                del part  # and what it holds


def carry_out(part: Callable[[], Any]) -> Outcome:
    """Call a part."""
    try:
        return part(), None
    except Exception as error:  # noqa: BLE001 - the caller raises it again
        return None, error


def results(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return what the parts returned, or raise the first error."""
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]
