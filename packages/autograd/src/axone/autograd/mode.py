"""What a thread does with the operations it meets: record them or not, and who watches.

The state belongs to one thread, so that a worker which evaluates does not switch off the gradients of one that
trains. A new thread starts out recording and unwatched.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from axone.autograd.arrays import Array
from axone.autograd.tape import Node

P = ParamSpec("P")
R = TypeVar("R")


class Mode(threading.local):
    """The switches of one thread."""

    recording: bool = True
    watchers: tuple[Watcher, ...] = ()


mode = Mode()


class Watcher:
    """Sees every operation as it is computed, in the threads that enter it: the base of anomaly detection and profiles."""

    def __enter__(self) -> Self:
        mode.watchers = (*mode.watchers, self)
        self._entered()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left()
        mode.watchers = mode.watchers[:-1]

    def _entered(self) -> None:
        """Called in a thread from which on it is watched."""

    def _left(self) -> None:
        """Called in a thread that is not watched any longer."""

    def _computed(self, name: str, data: Array, inputs: Sequence[object], node: Node | None) -> None:
        """Called by `record` after the forward of an operation; `node` is None if it was not recorded."""
        raise NotImplementedError


def is_watched() -> bool:
    """Return whether a watcher, such as `profile` or `detect_anomaly`, watches the operations of this thread.

    Examples
    --------
    >>> from axone.autograd import profile
    >>> from axone.autograd.extend import is_watched
    >>> with profile():
    ...     is_watched()
    True
    """
    return bool(mode.watchers)


def watched_alike(function: Callable[[], R]) -> Callable[[], R]:
    """Return a function as another thread shall call it for this one: watched by whoever watches this thread.

    Parameters
    ----------
    function : callable
        Takes no arguments. Whether it records, it says itself, with `no_grad`.

    Returns
    -------
    callable
        Does the same, inside `detect_anomaly` and `profile` where this thread is inside of them now.

    Examples
    --------
    >>> import threading
    >>> from axone.autograd import exp, profile
    >>> from axone.autograd.extend import watched_alike
    >>> with profile() as measured:
    ...     worker = threading.Thread(target=watched_alike(lambda: exp(1.0)))
    ...     worker.start()
    ...     worker.join()
    >>> [measurement.operation for measurement in measured.measurements()]
    ['exp']
    """
    watchers = mode.watchers
    if not watchers:
        return function

    def watched() -> R:
        with contextlib.ExitStack() as stack:
            for watcher in watchers:
                if watcher not in mode.watchers:
                    stack.enter_context(watcher)
            return function()

    return watched


class no_grad:  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Compute without recording, as a context manager or a decorator; local to the thread.

    Decorating a generator function turns recording off while the generator runs and back on while its caller does.

    Examples
    --------
    >>> from axone.autograd import Tensor, no_grad
    >>> w = Tensor(3.0, requires_grad=True)
    >>> with no_grad():
    ...     y = w * 2.0
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.recording)
        mode.recording = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.recording = self._before.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` with recording off inside it."""
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", _no_grad_generator(function))

        @functools.wraps(function)
        def without_recording(*args: P.args, **kwargs: P.kwargs) -> R:
            with no_grad():
                return function(*args, **kwargs)

        return without_recording


def _no_grad_generator(function: Callable[P, Generator[Any, Any, Any]]) -> Callable[P, Generator[Any, Any, Any]]:
    """Wrap a generator function so that each step, and only the step, runs without recording."""

    @functools.wraps(function)
    def steps(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        resume: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                try:
                    with no_grad():
                        item = resume()
                except StopIteration as stop:
                    return stop.value
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever the caller throws goes to the generator
                    resume = functools.partial(generator.throw, error)
                else:
                    resume = functools.partial(generator.send, sent)
        finally:
            generator.close()

    return steps
