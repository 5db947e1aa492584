"""Memory pool: memory is reused only when no array uses it, within bounds, and freed at the end."""

import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.autograd import Tensor, memory
from axone.autograd.extend import empty, empty_like, reused_memory

FLOAT = np.dtype(np.float32)
LARGE = (memory.SMALLEST // 4,)

VIEWS = (
    lambda a: a[3:-3],
    lambda a: a[::2],
    lambda a: a.reshape(-1, 2).T,
    lambda a: a.view(np.uint8)[16:],
    lambda a: np.frombuffer(memoryview(a), np.uint16),
    lambda a: np.broadcast_to(a, (2, *a.shape)),
)


def block(array: Any) -> Any:
    """Return the object that owns the array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("make"), st.sampled_from((LARGE[0], LARGE[0] + 2, 2 * LARGE[0])), st.just(0)),
            st.tuples(st.just("view"), st.integers(0, 99), st.integers(0, len(VIEWS) - 1)),
            st.tuples(st.just("drop"), st.integers(0, 99), st.just(0)),
        ),
        max_size=40,
    )
)
def test_memory_of_a_living_array_or_view_is_never_reused(orders: list[tuple[str, int, int]]) -> None:
    living: list[tuple[Any, Any]] = []  # an array, and its expected content
    with reused_memory():
        for number, (order, which, how) in enumerate(orders):
            if order == "make":
                made = empty((which,), FLOAT)
                made.fill(number)
                living.append((made, made.copy()))
                del made
            elif order == "view" and living:
                array, expected = living[which % len(living)]
                if array.ndim == 1 and array.dtype == FLOAT and array.flags.c_contiguous and len(array) % 2 == 0:
                    living.append((VIEWS[how](array), VIEWS[how](expected)))
                del array, expected
            elif order == "drop" and living:
                del living[which % len(living)]
            for array, expected in living:
                np.testing.assert_array_equal(array, expected)
            array = expected = None


def test_memory_of_a_dropped_array_is_reused_for_other_shapes() -> None:
    with reused_memory():
        first = empty((256, 128), FLOAT)
        place = first.ctypes.data
        del first
        second = empty((128, 256), FLOAT)
        assert second.ctypes.data == place
        assert empty_like(second).ctypes.data != place


def test_small_arrays_and_arrays_outside_own_their_memory() -> None:
    assert empty(LARGE, FLOAT).flags.owndata
    with reused_memory():
        assert not empty(LARGE, FLOAT).flags.owndata
        assert empty((LARGE[0] - 1,), FLOAT).flags.owndata
        assert empty((0, 3), FLOAT).shape == (0, 3)
    assert empty(LARGE, FLOAT).flags.owndata


def test_an_array_outlives_the_end_and_other_memory_is_freed() -> None:
    with reused_memory():
        kept, dropped = empty(LARGE, FLOAT), empty(LARGE, FLOAT)
        kept.fill(7)
        blocks = [weakref.ref(block(array)) for array in (kept, dropped)]
        with reused_memory():
            del dropped
        assert all(reference() is not None for reference in blocks)
    assert blocks[0]() is not None
    assert blocks[1]() is None
    assert (kept == 7).all()
    del kept
    assert blocks[0]() is None


def test_memory_of_sizes_not_requested_for_long_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FORGOTTEN", 10)
    with reused_memory():
        rare = weakref.ref(block(empty((8 * LARGE[0],), FLOAT)))
        for _ in range(11):
            empty(LARGE, FLOAT)
        assert rare() is not None  # kept as long as no more memory is needed
        empty((2 * LARGE[0],), FLOAT)
        assert rare() is None


def test_threads_do_not_share_memory() -> None:
    handed: list[Any] = []

    def work() -> None:
        with reused_memory():
            handed.append(empty(LARGE, FLOAT))
            handed[0].fill(1)
            places.append(empty(LARGE, FLOAT).ctypes.data)

    places: list[int] = []
    with reused_memory():
        place = empty(LARGE, FLOAT).ctypes.data
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        others = [empty(LARGE, FLOAT) for _ in range(4)]
        for other in others:
            other.fill(2)
        assert others[0].ctypes.data == place
        assert (handed[0] == 1).all()
        assert handed[0].ctypes.data not in {place, places[0]}


def test_arrays_passed_between_threads_are_not_overwritten() -> None:
    wrong: list[int] = []
    passed: list[tuple[int, Any]] = []

    def work(number: int) -> None:
        with reused_memory():
            for turn in range(200):
                array = empty(LARGE, FLOAT)
                array.fill(number * 1000 + turn)
                passed.append((number * 1000 + turn, array[1:]))
                value, taken = passed.pop(0)
                if not (taken == value).all():
                    wrong.append(value)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_generator_closed_in_another_thread() -> None:
    def steps() -> Any:
        with reused_memory():
            yield empty(LARGE, FLOAT)

    generator = steps()
    next(generator)
    worker = threading.Thread(target=generator.close)
    worker.start()
    worker.join()
    assert empty(LARGE, FLOAT).flags.owndata
    with reused_memory():
        assert not empty(LARGE, FLOAT).flags.owndata


def test_arrays_own_their_memory_where_references_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_references", lambda _: 1)
    assert memory._unused() < 0
    monkeypatch.setattr(memory, "_UNUSED", -1)
    with reused_memory():
        assert empty(LARGE, FLOAT).flags.owndata


def test_gradients_are_equal_in_reused_memory() -> None:
    rng = np.random.default_rng(0)
    start = rng.standard_normal((160, 160))

    def gradient() -> Any:
        x = Tensor(start, requires_grad=True)
        y = x + Tensor(start)
        for _ in range(3):
            y = y + y * x
        (y * y).sum().backward()
        return x.grad

    expected = gradient()
    with reused_memory():
        for _ in range(3):
            np.testing.assert_array_equal(gradient(), expected)
