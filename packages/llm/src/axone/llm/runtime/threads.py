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
from axone.llm.runtime.settings import kept_memory

R = TypeVar("R")


class Team:
    """Some threads, as a context manager.

    Parameters
    ----------
    size : int
        How many parts are worked on at once, the caller's included.

    Attributes
    ----------
    size : int
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._helpers = [_Helper(number) for number in range(1, size)]

    def __enter__(self) -> Self:
        try:
            for helper in self._helpers:
                helper.start()
        except BaseException:  # the system has no more threads
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, parts: Sequence[Callable[[], R]]) -> list[R]:
        """Carry out every part, and return what they return when all have ended.

        Parameters
        ----------
        parts : sequence of callable
            At most one for each thread; the caller carries out the first.

        Raises
        ------
        BaseException
            The first part's that raised one, after all have ended.
        """
        helpers = self._helpers[: len(parts) - 1]
        awaited = [helper.hand(watched_alike(part)) for helper, part in zip(helpers, parts[1:], strict=True)]
        return results([carry_out(parts[0]), *(outcome.get() for outcome in awaited)])

    def asked(self, stop: Callable[[], bool]) -> bool:
        """Tell whether `stop` says so: threads all know it."""
        return stop()

    def _end(self) -> None:
        started = [helper for helper in self._helpers if helper.ident is not None]
        for helper in started:
            helper.parts.put(None)
        for helper in started:
            helper.join()


Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a part returned, and what it raised."""


class _Helper(Thread):
    """One thread: carries out what is handed to it, until that is None."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"axone-worker-{number}", daemon=True)
        self.parts: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Outcome]] | None] = SimpleQueue()

    def hand(self, part: Callable[[], Any]) -> SimpleQueue[Outcome]:
        """Have a part carried out, and return where its outcome will be: one that nobody awaits is no other part's."""
        outcome: SimpleQueue[Outcome] = SimpleQueue()
        self.parts.put((part, outcome))
        return outcome

    def run(self) -> None:
        with kept_memory():
            while (handed := self.parts.get()) is not None:
                part, outcome = handed
                outcome.put(carry_out(part))
                del handed, part, outcome  # and what they hold


def carry_out(part: Callable[[], Any]) -> Outcome:
    """Call a part."""
    try:
        return part(), None
    except BaseException as error:  # noqa: BLE001 - the caller raises it again, and waits if nothing comes
        return None, error


def results(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return what the parts returned, or raise the first error."""
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]
