"""Anomaly detection: errors name the operation and the line; finite results pass."""

import sys
import threading

import numpy as np
import pytest

import axone.autograd as ag
from axone.autograd import AnomalyError, Tensor, detect_anomaly
from axone.autograd.extend import Product, record
from axone.autograd.mode import mode


def here(ahead: int = 1) -> str:
    """Return file and number of a line after the caller's, as the message names them."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + ahead}"


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("log", [1.0, 0.0], "made an infinity"),
        ("log", [-1.0, 1.0], "made a NaN"),
        ("exp", [1e3, 0.0], "made an infinity"),
    ],
)
def test_the_forward_operation_and_line_are_named(name: str, data: list[float], fault: str) -> None:
    x = Tensor(data, requires_grad=True)
    operation = getattr(ag, name)
    with detect_anomaly():
        y = x + 0
        line = here(ahead=2)
        with pytest.raises(AnomalyError) as raised:
            operation(y)
    assert str(raised.value) == f"{name} of shape (2,) {fault}, at {line}"


def test_a_nan_among_the_inputs() -> None:
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"multiply of shape .* was given a NaN"):
        Tensor([np.nan, 1.0]) * 2


def test_the_backward_operation_and_line_are_named() -> None:
    x = Tensor([4.0, 0.0], requires_grad=True)
    with detect_anomaly():
        line = here()
        y = ag.sqrt(x)
        with pytest.raises(AnomalyError) as raised:
            y.sum().backward()
    assert str(raised.value) == (
        f"the backward of sqrt of shape (2,), computed at {line}, made an infinity in the gradient of input 0"
    )


def test_a_deferred_gradient_is_checked() -> None:
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    huge = np.full((2, 2), 1e200)
    with detect_anomaly():
        y = record("huge", x.data, (x,), lambda _: (Product(huge, huge * huge),))
        with pytest.raises(AnomalyError, match=r"the backward of huge .* made an infinity"):
            y.sum().backward()


def test_a_raw_write_to_an_array_that_backward_needs() -> None:
    x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    with detect_anomaly():
        line = here()
        y = (x * w).sum()
        w.data[0] = 100.0
        with pytest.raises(AnomalyError) as raised:
            y.backward()
    assert str(raised.value) == (
        f"multiply of shape (2,), computed at {line}, needs an array of shape (2,) for its backward, but the array was "
        "written to: write to a copy, or after the backward pass"
    )


def test_a_raw_write_to_an_array_that_backward_does_not_need() -> None:
    x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    with detect_anomaly():
        y = (x + w).sum()
        w.data[0] = 100.0
        y.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0])


def test_infinities_of_a_mask_pass() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    mask = np.array([[True, False], [True, True]])
    with detect_anomaly():
        scores = ag.where(mask, x @ x, -np.inf)
        ag.softmax(scores)[:, 0].sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad).all()


def test_detection_is_off_outside_and_in_other_threads() -> None:
    with detect_anomaly():
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(mode.observers))
        thread.start()
        thread.join()
        with detect_anomaly():
            pass
        with pytest.raises(AnomalyError):
            ag.log(Tensor(0.0))
    assert seen == [()]
    assert mode.observers == ()
    with np.errstate(divide="ignore"):
        assert ag.log(Tensor(0.0)).item() == -np.inf
