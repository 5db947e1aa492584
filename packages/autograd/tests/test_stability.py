"""Extreme inputs: overflow, infinities, NaN and the ends of domains."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import axone.autograd as ag
from axone.autograd import Tensor
from axone.autograd.arrays import mask_gradient
from axone.autograd.optim import Adam, AdamW

HUGE = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]], dtype=np.float32)


@pytest.mark.parametrize("operation", [ag.softmax, ag.log_softmax, ag.logsumexp, ag.sigmoid, ag.tanh])
def test_huge_scores_stay_finite(operation: object) -> None:
    x = Tensor(HUGE, requires_grad=True)
    y = operation(x)  # type: ignore[operator]  # an operation of one input
    y.sum().backward()
    assert np.isfinite(y.data).all()
    assert x.grad is not None
    assert np.isfinite(x.grad).all()


def test_a_fully_masked_row() -> None:
    x = Tensor([[-np.inf, -np.inf], [0.0, -np.inf]], requires_grad=True)
    p = ag.softmax(x)
    np.testing.assert_array_equal(p.data, [[0.0, 0.0], [1.0, 0.0]])
    p.sum().backward()
    np.testing.assert_array_equal(x.grad, np.zeros((2, 2)))
    x.grad = None
    total = ag.logsumexp(x)
    np.testing.assert_array_equal(total.data, [-np.inf, 0.0])
    total.sum().backward()
    np.testing.assert_array_equal(x.grad, [[0.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(ag.log_softmax(x).data, [[-np.inf, -np.inf], [0.0, -np.inf]])


@pytest.mark.parametrize("scores", [[-np.inf, -np.inf], [0.0, -np.inf], [1e4, -1e4, 0.0], [np.nan, 1.0], [3.0]])
def test_softmax_of_one_row_equals_that_of_several(scores: list[float]) -> None:
    row, rows = Tensor(scores, requires_grad=True), Tensor([scores, scores], requires_grad=True)
    one, both = ag.softmax(row), ag.softmax(rows)
    np.testing.assert_array_equal(both.data, [one.data, one.data])
    weights = np.arange(len(scores))
    one.backward(weights)
    both.backward([weights, weights])
    assert row.grad is not None
    assert rows.grad is not None
    np.testing.assert_allclose(rows.grad, np.stack([row.grad, row.grad]), rtol=1e-6)


def test_log_softmax_is_the_logarithm_of_softmax_for_tiny_probabilities() -> None:
    x = Tensor(np.array([0.0, -80.0], dtype=np.float32))
    np.testing.assert_allclose(np.log(ag.softmax(x).data), ag.log_softmax(x).data, rtol=1e-6)


def test_sigmoid_is_accurate_at_both_ends() -> None:
    x = Tensor(np.array([-40.0, 40.0, -800.0, 800.0]), requires_grad=True)
    y = ag.sigmoid(x)
    np.testing.assert_allclose(y.data, [np.exp(-40.0), 1.0, 0.0, 1.0], rtol=1e-15)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, [np.exp(-40.0), np.exp(-40.0), 0.0, 0.0], rtol=1e-15)


def test_standard_deviation_of_equal_numbers() -> None:
    x = Tensor([2.0, 2.0, 2.0], requires_grad=True)
    x.std().backward()
    np.testing.assert_array_equal(x.grad, [0.0, 0.0, 0.0])


def test_powers_at_zero_and_below() -> None:
    x = Tensor([0.0, -2.0, 3.0], requires_grad=True)
    (x**0 + x**1 + x**2 + x**3).sum().backward()
    np.testing.assert_array_equal(x.grad, [1.0, 9.0, 34.0])
    base, exponent = Tensor([0.0, 2.0], requires_grad=True), Tensor([2.0, 0.0], requires_grad=True)
    (base**exponent).sum().backward()
    np.testing.assert_array_equal(base.grad, [0.0, 0.0])
    assert exponent.grad is not None
    np.testing.assert_allclose(exponent.grad, [0.0, np.log(2)], rtol=1e-6)
    negative, two = Tensor([-2.0]), Tensor([2.0], requires_grad=True)
    (negative**two).sum().backward()
    assert two.grad is not None
    assert np.isnan(two.grad).all()


def test_equal_elements_share_the_gradient() -> None:
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    x.max(axis=1).sum().backward()
    third = np.float32(1) / 3
    np.testing.assert_array_equal(x.grad, [[0, 0.5, 0.5], [third] * 3])
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0, 3.0], requires_grad=True)
    (ag.maximum(a, b) + 10 * ag.minimum(a, b)).sum().backward()
    np.testing.assert_array_equal(a.grad, [5.5, 10.0])
    np.testing.assert_array_equal(b.grad, [5.5, 1.0])


@pytest.mark.parametrize("optimizer", [Adam, AdamW])
def test_adam_with_a_zero_gradient(optimizer: type[AdamW]) -> None:
    p = Tensor([1.0, -1.0], requires_grad=True)
    p.grad = np.zeros(2, np.float32)
    optimizer([p], lr=0.1).step()
    assert np.isfinite(p.data).all()


SELECTED: dict[str, Callable[[Tensor], Tensor]] = {  # each has an infinite gradient at the element not selected
    "where": lambda x: ag.sqrt(ag.where(x > 0, x, 0.0)),
    "where, second": lambda x: ag.sqrt(ag.where(x <= 0, 0.0, x)),
    "relu": lambda x: ag.log(ag.relu(x)),
    "clip": lambda x: ag.sqrt(ag.clip(x, 0.0, None)),
    "maximum": lambda x: ag.sqrt(ag.maximum(x, 0.0)),
    "minimum": lambda x: ag.sqrt(-ag.minimum(-x, 0.0)),
    "max": lambda x: ag.sqrt(ag.max(ag.stack([x, np.zeros(2)]), axis=0)),
    "min": lambda x: ag.sqrt(-ag.min(ag.stack([-x, np.zeros(2)]), axis=0)),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("function", SELECTED.values(), ids=SELECTED)
def test_an_infinite_gradient_of_an_unselected_element_is_dropped(
    function: Callable[[Tensor], Tensor], dtype: type
) -> None:
    x = Tensor(np.array([-1.0, 4.0], dtype), requires_grad=True)
    function(x).sum().backward()
    np.testing.assert_array_equal(x.grad, np.array([0.0, 0.25], dtype))


def test_the_standard_deviation_of_equal_numbers_drops_an_infinite_gradient() -> None:
    x = Tensor([2.0, 2.0], requires_grad=True)
    with np.errstate(divide="ignore"):
        ag.sqrt(x.std()).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 0.0])


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 0)])
def test_mask_gradient_equals_numpy_where(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        gradient: NDArray[Any] = np.asarray(rng.normal(size=shape[::-1])).astype(dtype).T
        for mask in (rng.random(shape) > 0.5, rng.random((2, *shape)) > 0.5, np.asarray(True)):
            found = mask_gradient(gradient, np.asarray(mask))
            assert found.dtype == dtype
            expected = np.where(mask, gradient, dtype(0))
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_logsumexp_of_an_infinite_score() -> None:
    inf = np.inf
    x = Tensor([[inf, 1e4, -inf], [inf, inf, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    y = ag.logsumexp(x)
    np.testing.assert_allclose(y.data, [inf, inf, np.log(np.exp([1.0, 2.0, 3.0]).sum())], rtol=1e-6)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad[:2], [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(x.grad[2], ag.softmax([1.0, 2.0, 3.0]).data, rtol=1e-6)
    assert ag.logsumexp([np.nan, inf]).data != ag.logsumexp([np.nan, inf]).data


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    "operation",
    [
        *(ag.sum, ag.mean, ag.var, ag.std, ag.max, ag.min, ag.cumsum),
        *(ag.softmax, ag.log_softmax, ag.logsumexp, ag.squeeze, lambda x, axis: ag.take(x, [0, 0], axis)),
    ],
)
def test_a_0d_tensor_accepts_axis_zero_as_in_numpy(operation: Callable[..., Tensor], axis: int) -> None:
    number, row = Tensor(np.array(3.0), requires_grad=True), Tensor(np.array([3.0]), requires_grad=True)
    one, expected = operation(number, axis=axis), operation(row, axis=0)
    np.testing.assert_array_equal(one.data.reshape(-1), expected.data.reshape(-1))
    one.sum().backward()
    expected.sum().backward()
    assert number.grad is not None
    assert row.grad is not None
    assert number.grad == row.grad[0]


def test_a_number_to_the_power_of_a_tensor_at_zero_and_infinity() -> None:
    x = Tensor(np.array([-2.0, 0.0, 2.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        y = 0**x
    np.testing.assert_array_equal(y.data, [np.inf, 1.0, 0.0])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [-np.inf, 0.0, 0.0])
    x.grad = None
    y = np.inf**x
    np.testing.assert_array_equal(y.data, [0.0, 1.0, np.inf])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [0.0, np.inf, np.inf])
    base = Tensor(np.array([np.inf, 0.0]), requires_grad=True)
    (base ** Tensor(np.zeros(2))).sum().backward()
    np.testing.assert_array_equal(base.grad, [0.0, 0.0])
