"""Profiler: counts, times, threads, and the restored profile function."""

import sys
import threading
import time

import numpy as np

import axone.autograd as ag
from axone.autograd import Tensor, detect_anomaly, no_grad, profile
from axone.autograd.extend import Array, Product, record, with_observers
from axone.autograd.mode import mode


def counted(measured: profile) -> dict[tuple[str, str], tuple[int, int]]:
    """Return calls and bytes of each row."""
    return {(m.operation, m.direction): (m.calls, m.bytes) for m in measured.measurements()}


def slow(x: Tensor) -> Tensor:
    """Return `x` after a delay; the backward and its deferred gradient have delays too."""
    time.sleep(0.02)

    class Late(Product):
        def write(self, out: Array) -> None:
            time.sleep(0.03)
            super().write(out)

    def vjp(g: Array) -> tuple[Product]:
        time.sleep(0.01)
        return (Late(np.eye(len(g)), g),)

    return record("slow", x.data + 0, (x,), vjp)


def test_calls_and_bytes_of_both_directions() -> None:
    x = Tensor(np.ones((4, 4)), requires_grad=True)
    before = sys.getprofile()
    with profile() as measured:
        for _ in range(3):
            (ag.exp(x) * x).sum().backward()
        with no_grad():
            ag.exp(x)
    ag.exp(x).sum().backward()  # not measured
    assert sys.getprofile() is before
    assert counted(measured) == {
        ("exp", "forward"): (4, 4 * 128),
        ("exp", "backward"): (3, 3 * 128),
        ("multiply", "forward"): (3, 3 * 128),
        ("multiply", "backward"): (3, 2 * 3 * 128),
        ("sum", "forward"): (3, 3 * 8),
        ("sum", "backward"): (3, 3 * 128),
    }
    shares = [m.share for m in measured.measurements()]
    assert abs(sum(shares) - 1) < 1e-9
    assert shares == sorted(shares, reverse=True)


def test_the_time_includes_deferred_gradients() -> None:
    x = Tensor(np.ones((4, 4)), requires_grad=True)
    with profile() as measured:
        y = slow(x)
        time.sleep(0.05)  # belongs to no operation
        y.backward(np.ones((4, 4)))
    assert counted(measured) == {("slow", "forward"): (1, 128), ("slow", "backward"): (1, 128)}
    seconds = {m.direction: m.seconds for m in measured.measurements()}
    assert seconds["forward"] >= 0.02
    assert seconds["backward"] >= 0.04


def test_each_result_of_one_operation_has_its_own_time() -> None:
    def twice(x: Tensor) -> list[Tensor]:
        time.sleep(0.02)
        first = record("first", x.data, (x,), lambda g: (g,))
        return [first, record("second", x.data, (x,), lambda g: (g,))]

    with profile() as measured:
        twice(Tensor([1.0]))
    seconds = {m.operation: m.seconds for m in measured.measurements()}
    assert seconds["first"] >= 0.02
    assert seconds["second"] < seconds["first"]


def test_workers_with_observers_are_measured_and_other_threads_are_not() -> None:
    x = Tensor(np.ones(3), requires_grad=True)

    def work() -> None:
        ag.exp(x).sum().backward()

    with profile() as measured:
        worker, other = threading.Thread(target=with_observers(work)), threading.Thread(target=work)
        for thread in (worker, other):
            thread.start()
            thread.join()
        with_observers(work)()  # counted once in this thread
    assert {calls for calls, _ in counted(measured).values()} == {2}
    assert mode.observers == ()


def test_nested_profiles_and_anomaly_detection() -> None:
    x = Tensor(np.full((70, 70), 0.01), requires_grad=True)
    with profile() as outer, detect_anomaly(), profile() as inner:
        (x @ x).sum().backward()
    assert counted(outer) == counted(inner)
    assert all(m.seconds > 0 for m in outer.measurements())
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, np.full((70, 70), 1.4))
    assert mode.observers == ()


def test_the_table() -> None:
    with profile() as measured:
        (Tensor(np.ones((100, 10)), requires_grad=True) * 2).sum().backward()
    head, *rows, last = str(measured).splitlines()
    assert head.split() == ["operation", "direction", "calls", "ms", "share", "MB"]
    assert {tuple(row.split()[:3]) for row in rows} == {
        *((name, direction, "1") for name in ("multiply", "sum") for direction in ("forward", "backward")),
    }
    assert last.split()[:2] == ["all", "4"]
    assert str(profile()).splitlines()[1].split()[:2] == ["all", "0"]
    assert {len(line) for line in str(measured).splitlines()} == {len(head)}
