"""Thread group: runs the tasks of one piece of work in parallel, the first of them in the calling thread.

Tasks go through `queue.SimpleQueue`, which is written in C: a step of a few milliseconds takes several times less of it
than of `concurrent.futures`. The caller's `profile` and `detect_anomaly` also watch its tasks in the other threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from axone.autograd.extend import with_observers
from axone.llm.errors import WorkerError
from axone.llm.runtime.settings import adapted_memory

R = TypeVar("R")


class ThreadGroup:
    """Threads that run tasks in parallel, as a context manager.

    Parameters
    ----------
    world_size : int
        Number of threads, with the calling thread, which is rank 0.

    Attributes
    ----------
    world_size : int
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        try:
            for rank in range(1, self.world_size):
                self._workers.append(_Worker(rank))
                self._workers[-1].start()
        except RuntimeError as error:  # "can't start new thread"
            started = len(self._workers)  # with the calling thread, without the refused one
            self._end()
            raise WorkerError(
                f"cannot start {self.world_size} threads, because the system refuses more than {started}: "
                "use fewer workers"
            ) from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, tasks: Sequence[Callable[[], R]]) -> list[R]:
        """Run every task, and return their results when all have ended.

        Parameters
        ----------
        tasks : sequence of callable
            At most one per thread; the caller runs the first.

        Raises
        ------
        BaseException
            The error of the first task that raised one, after all have ended.
        """
        workers = self._workers[: len(tasks) - 1]
        queues = [worker.submit(with_observers(task)) for worker, task in zip(workers, tasks[1:], strict=True)]
        return values([run_one(tasks[0]), *(queue.get() for queue in queues)])

    def start(self, program: object) -> None:
        """Do nothing: threads share the program."""

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Do nothing: `run` submits the tasks of the calling thread."""

    def call_failed(self, error: BaseException) -> None:
        """Do nothing: no other rank waits."""

    def any(self, condition: Callable[[], bool]) -> bool:
        """Return the condition: threads share it."""
        return condition()

    def private_memory(self) -> int:
        """Return 0: threads share all memory of the process."""
        return 0

    def _end(self) -> None:
        for worker in self._workers:
            worker.tasks.put(None)
        for worker in self._workers:
            if worker.ident is not None:  # it was started
                worker.join()
        self._workers.clear()


Result: TypeAlias = tuple[Any, BaseException | None]
"""Return value of a task, or the error that it raised."""


class _Worker(Thread):
    """Thread that runs submitted tasks until it receives None."""

    def __init__(self, rank: int) -> None:
        super().__init__(name=f"axone-worker-{rank}", daemon=True)
        self.tasks: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Result]] | None] = SimpleQueue()

    def submit(self, task: Callable[[], Any]) -> SimpleQueue[Result]:
        """Submit a task, and return its own result queue, so that an abandoned result cannot be taken for another's."""
        queue: SimpleQueue[Result] = SimpleQueue()
        self.tasks.put((task, queue))
        return queue

    def run(self) -> None:
        with adapted_memory():
            while (submitted := self.tasks.get()) is not None:
                task, queue = submitted
                queue.put(run_one(task))
                del submitted, task, queue  # and the arrays that they refer to


def run_one(task: Callable[[], Any]) -> Result:
    """Run a task, and return its result or its error."""
    try:
        return task(), None
    except BaseException as error:  # noqa: BLE001 - the caller, which waits for a result, raises it again
        return None, error


def values(results: Sequence[Result]) -> list[Any]:
    """Return the values of all results, or raise the first error among them."""
    for _, error in results:
        if error is not None:
            raise error
    return [value for value, _ in results]
