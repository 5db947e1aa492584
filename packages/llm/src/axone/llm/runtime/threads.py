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

from axone.autograd.extend import with_observers
from axone.llm.runtime.settings import kept_memory

R = TypeVar("R")


class ThreadGroup:
    """Some threads, as a context manager.

    Parameters
    ----------
    world_size : int
        How many parts are worked on at once, the caller's included.

    Attributes
    ----------
    world_size : int
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._workers = [_Worker(rank) for rank in range(1, world_size)]

    def __enter__(self) -> Self:
        try:
            for worker in self._workers:
                worker.start()
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
        workers = self._workers[: len(parts) - 1]
        awaited = [worker.submit(with_observers(part)) for worker, part in zip(workers, parts[1:], strict=True)]
        return results([run_one(parts[0]), *(outcome.get() for outcome in awaited)])

    def start(self, program: object) -> None:
        """Do nothing: threads share the program."""

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Do nothing: `run` hands every thread its task."""

    def any(self, stop: Callable[[], bool]) -> bool:
        """Return what `stop` returns: threads share it."""
        return stop()

    def private_memory(self) -> int:
        """Return 0: threads share all memory of the process."""
        return 0

    def _end(self) -> None:
        started = [worker for worker in self._workers if worker.ident is not None]
        for worker in started:
            worker.parts.put(None)
        for worker in started:
            worker.join()


Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a part returned, and what it raised."""


class _Worker(Thread):
    """One thread: carries out what is handed to it, until that is None."""

    def __init__(self, rank: int) -> None:
        super().__init__(name=f"axone-worker-{rank}", daemon=True)
        self.parts: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Outcome]] | None] = SimpleQueue()

    def submit(self, part: Callable[[], Any]) -> SimpleQueue[Outcome]:
        """Have a part carried out, and return where its outcome will be: one that nobody awaits is no other part's."""
        outcome: SimpleQueue[Outcome] = SimpleQueue()
        self.parts.put((part, outcome))
        return outcome

    def run(self) -> None:
        with kept_memory():
            while (handed := self.parts.get()) is not None:
                part, outcome = handed
                outcome.put(run_one(part))
                del handed, part, outcome  # and what they hold


def run_one(part: Callable[[], Any]) -> Outcome:
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
