"""no_grad: nesting, decorators, generators and threads."""

import threading
from collections.abc import Generator, Iterator

import pytest

from axone.autograd import Tensor, no_grad
from axone.autograd.mode import mode

x = Tensor(2.0, requires_grad=True)


def test_no_grad_nests_and_ends_after_an_error() -> None:
    with no_grad():
        with no_grad():
            assert not mode.grad_enabled
        assert not mode.grad_enabled
        with pytest.raises(ZeroDivisionError), no_grad():
            1 / 0  # noqa: B018 - the error is the point
        assert not mode.grad_enabled
    assert mode.grad_enabled


def test_a_decorated_function() -> None:
    @no_grad()
    def double(t: Tensor) -> Tensor:
        """Return twice."""
        return t * 2

    assert not double(x).requires_grad
    assert double.__doc__ == "Return twice."
    assert mode.grad_enabled


def test_a_decorated_generator_does_not_affect_its_caller() -> None:
    @no_grad()
    def steps() -> Iterator[bool]:
        for _ in range(3):
            yield mode.grad_enabled

    for recording in steps():
        assert not recording
        assert mode.grad_enabled


def test_a_decorated_generator_is_sent_to_thrown_into_and_closed() -> None:
    closed = []

    @no_grad()
    def echo() -> Generator[str, str, str]:
        got = "start"
        try:
            while got != "end":
                try:
                    got = yield got
                except KeyError:
                    got = f"caught, recording: {mode.grad_enabled}"
            return "returned"
        finally:
            closed.append(mode.grad_enabled)

    generator = echo()
    assert next(generator) == "start"
    assert generator.send("a") == "a"
    assert generator.throw(KeyError()) == "caught, recording: False"
    with pytest.raises(StopIteration, match="returned"):
        generator.send("end")
    another = echo()
    next(another)
    another.close()
    assert len(closed) == 2
    assert mode.grad_enabled


def test_another_thread_still_records() -> None:
    seen: list[bool] = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]
