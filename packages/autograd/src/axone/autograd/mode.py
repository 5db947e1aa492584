"""State of each thread: whether operations are recorded, and the observers that are called after each of them.

The state is thread-local, so that a thread which evaluates does not switch off the gradients of one that trains. A new
thread starts with recording on and without observers.
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
    """The thread-local state."""

    grad_enabled: bool = True
    observers: tuple[Observer, ...] = ()


mode = Mode()


class Observer:
    """Base class of `detect_anomaly` and `profile`: a context manager that is called after each operation of its thread."""

    def __enter__(self) -> Self:
        mode.observers = (*mode.observers, self)
        self._on_enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_exit()
        mode.observers = mode.observers[:-1]

    def _on_enter(self) -> None:
        """Run when a thread enters the context."""

    def _on_exit(self) -> None:
        """Run when a thread leaves the context."""

    def _on_operation(self, name: str, data: Array, inputs: Sequence[object], node: Node | None) -> None:
        """Run after the forward of an operation; `node` is None if the operation was not recorded."""
        raise NotImplementedError


def is_grad_enabled() -> bool:
    """Return whether this thread records operations: false inside `no_grad`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from axone.autograd import no_grad
    >>> from axone.autograd.extend import is_grad_enabled
    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """
    return mode.grad_enabled


def is_observed() -> bool:
    """Return whether this thread is inside `detect_anomaly` or `profile`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from axone.autograd import profile
    >>> from axone.autograd.extend import is_observed
    >>> with profile():
    ...     is_observed()
    True
    """
    return bool(mode.observers)


def with_observers(function: Callable[[], R]) -> Callable[[], R]:
    """Bind a function to the observers of this thread, so that another thread can run it under them.

    Parameters
    ----------
    function : callable
        Takes no arguments. The other thread's own `no_grad` decides whether it records.

    Returns
    -------
    callable
        Calls `function` inside each `detect_anomaly` and `profile` that is active in this thread now.

    Examples
    --------
    >>> import threading
    >>> from axone.autograd import exp, profile
    >>> from axone.autograd.extend import with_observers
    >>> with profile() as measured:
    ...     worker = threading.Thread(target=with_observers(lambda: exp(1.0)))
    ...     worker.start()
    ...     worker.join()
    >>> [measurement.operation for measurement in measured.measurements()]
    ['exp']
    """
    observers = mode.observers
    if not observers:
        return function

    def observed() -> R:
        with contextlib.ExitStack() as stack:
            for observer in observers:
                if observer not in mode.observers:
                    stack.enter_context(observer)
            return function()

    return observed


class no_grad:  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Compute without recording, as a context manager or a decorator; local to the thread.

    A decorated generator function runs without recording; its caller's code between two items is recorded as usual.

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
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(mode.grad_enabled)
        mode.grad_enabled = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.grad_enabled = self._previous.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` wrapped so that it runs without recording."""
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
                except BaseException as error:  # noqa: BLE001 - passed on to the generator, whatever the caller throws
                    resume = functools.partial(generator.throw, error)
                else:
                    resume = functools.partial(generator.send, sent)
        finally:
            generator.close()

    return steps
