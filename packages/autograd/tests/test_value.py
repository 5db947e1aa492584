"""Value: results and slopes of each operation, and gradients of a backward pass."""

import gc
import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from axone.autograd import Value

# name, operation on Values and numbers alike, and points of its domain away from kinks
OPERATIONS: list[tuple[str, Callable[[Value, Value], Value], tuple[float, float]]] = [
    ("add", lambda a, b: a + b, (1.5, -2.0)),
    ("add a number", lambda a, b: a + 3 + b * 0, (1.5, -2.0)),
    ("number plus", lambda a, b: 3 + a + b * 0, (1.5, -2.0)),
    ("subtract", lambda a, b: a - b, (1.5, -2.0)),
    ("number minus", lambda a, b: 3.0 - a - b, (1.5, -2.0)),
    ("multiply", lambda a, b: a * b, (1.5, -2.0)),
    ("number times", lambda a, b: 3 * a + b, (1.5, -2.0)),
    ("divide", lambda a, b: a / b, (1.5, -2.0)),
    ("number by", lambda a, b: 3 / a + b / 4, (1.5, -2.0)),
    ("square", lambda a, b: a**2 + b**2, (1.5, -2.0)),
    ("reciprocal power", lambda a, b: a**-1.5 + b**-3, (1.5, -2.0)),
    ("power of two Values", lambda a, b: a**b, (1.5, -2.0)),
    ("number to the power", lambda a, b: 2**a + 0.5**b, (1.5, -2.0)),
    ("negative", lambda a, b: -a * -b, (1.5, -2.0)),
    ("exp", lambda a, b: a.exp() * b.exp(), (1.5, -2.0)),
    ("log", lambda a, b: a.log() - b.log(), (1.5, 0.02)),
    ("tanh", lambda a, b: a.tanh() + b.tanh(), (1.5, -0.2)),
    ("sigmoid", lambda a, b: a.sigmoid() + b.sigmoid(), (1.5, -2.0)),
    ("relu", lambda a, b: a.relu() * 3 + b.relu(), (1.5, -2.0)),
    ("leaky_relu", lambda a, b: a.leaky_relu() + b.leaky_relu(0.2), (1.5, -2.0)),
    ("repeated", lambda a, b: a * a * b + a / (a + b * b), (1.5, -2.0)),
]


@pytest.mark.parametrize(("operation", "point"), [row[1:] for row in OPERATIONS], ids=[row[0] for row in OPERATIONS])
def test_gradients_are_central_differences(
    operation: Callable[[Value, Value], Value], point: tuple[float, float]
) -> None:
    a, b = Value(point[0]), Value(point[1])
    operation(a, b).backward()
    h = 1e-6

    def at(da: float, db: float) -> float:
        return operation(Value(point[0] + da), Value(point[1] + db)).data

    assert a.grad == pytest.approx((at(h, 0) - at(-h, 0)) / (2 * h), rel=1e-7, abs=1e-7)
    assert b.grad == pytest.approx((at(0, h) - at(0, -h)) / (2 * h), rel=1e-7, abs=1e-7)


def test_results_equal_those_of_python_numbers() -> None:
    a, b = Value(1.5), Value(-2.0)
    assert ((a + b).data, (a - b).data, (a * b).data, (a / b).data) == (-0.5, 3.5, -3.0, -0.75)
    assert ((-a).data, (a**2).data, (b**3).data, (a**b).data) == (-1.5, 2.25, -8.0, 1.5**-2)
    assert (a.exp().data, a.log().data, a.tanh().data) == (math.exp(1.5), math.log(1.5), math.tanh(1.5))
    assert (a.relu().data, b.relu().data, b.leaky_relu().data, b.leaky_relu(0.5).data) == (1.5, 0.0, -0.02, -1.0)
    assert a.sigmoid().data == pytest.approx(1 / (1 + math.exp(-1.5)), rel=1e-15)


def test_sum_of_values() -> None:
    values = [Value(x) for x in (1.0, 2.0, 3.0)]
    total = sum(values, Value(0.0))
    total.backward()
    assert total.data == 6.0
    assert [v.grad for v in values] == [1.0, 1.0, 1.0]


def test_a_second_backward_adds_to_the_leaves_once_more() -> None:
    x = Value(3.0)
    square = x * x
    y = square * 2
    for expected in (12.0, 24.0, 36.0):
        y.backward()
        assert x.grad == expected
        assert (y.grad, square.grad) == (1.0, 2.0)


def test_backward_from_two_results_of_one_graph() -> None:
    x = Value(3.0)
    square = x * x
    (square + x).backward()
    (square * x).backward()
    assert x.grad == 7.0 + 27.0


def test_backward_of_a_leaf() -> None:
    x = Value(3.0)
    x.backward()
    x.backward()
    assert x.grad == 2.0


@pytest.mark.parametrize("x", [-1e4, -745.2, -40.0, 0.0, 40.0, 745.2, 1e4])
def test_sigmoid_and_tanh_are_stable(x: float) -> None:
    for curve in (Value.sigmoid, Value.tanh):
        v = Value(x)
        y = curve(v)
        y.backward()
        assert -1 <= y.data <= 1
        assert 0 <= v.grad <= 1


def test_sigmoid_is_accurate_on_both_sides() -> None:
    assert Value(-40.0).sigmoid().data == pytest.approx(math.exp(-40.0), rel=1e-15)
    v = Value(40.0)
    v.sigmoid().backward()
    assert v.grad == pytest.approx(math.exp(-40.0), rel=1e-15)


def test_powers_at_zero() -> None:
    x = Value(0.0)
    (x**0 + x**1 + x**2 + x ** Value(2.0)).backward()
    assert x.grad == 1.0


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (lambda: Value(0.0).log(), ValueError, "log(0) does not exist: the Value must be positive"),
        (lambda: Value(-2.5).log(), ValueError, "log(-2.5) does not exist: the Value must be positive"),
        (lambda: Value(710.0).exp(), OverflowError, "exp(710) is too large for a float: the Value must be at most 709"),
        (lambda: Value(1.0) / 0, ZeroDivisionError, "1 / 0: a Value cannot be divided by zero"),
        (
            lambda: Value(-2.0) ** 0.5,
            ValueError,
            "-2 ** 0.5 is not a real number, which a Value and its slope must be",
        ),
        (lambda: Value(0.0) ** 0.5, ValueError, "0 ** -0.5 is not finite, which a Value and its slope must be"),
        (
            lambda: Value(-2.0) ** Value(2.0),
            ValueError,
            (
                "-2 ** 2 with a Value as the exponent has no slope, because the base is negative: pass the exponent as a "
                "number"
            ),
        ),
        (lambda: Value(1e300) ** 2, OverflowError, "1e+300 ** 2 is too large for a float"),
        (
            lambda: Value([1.0]),  # type: ignore[arg-type]  # the misuse under test
            TypeError,
            "a Value needs one real number, got list: use a Tensor for arrays",
        ),
        (
            lambda: Value(1.0) + "1",  # type: ignore[operator]  # the misuse under test
            TypeError,
            "a Value needs one real number, got str: use a Tensor for arrays",
        ),
    ],
)
def test_errors(compute: Callable[[], Value], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        compute()
    assert str(raised.value) == message


def test_repr() -> None:
    x = Value(1 / 3)
    assert repr(x) == "Value(0.3333)"
    assert repr(x * 3) == "Value(1, from='*')"
    assert repr(x**2) == "Value(0.1111, from='** 2')"


def test_repr_shows_a_gradient() -> None:
    x = Value(3.0)
    y = x * 2
    y.backward()
    assert repr(x) == "Value(3, grad=2)"
    assert repr(y) == "Value(6, grad=1, from='*')"


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2.0), np.float32(2.0), np.int64(2), True])
def test_numbers_of_every_kind_on_either_side(number: float) -> None:
    v = Value(4.0)
    for result in (v + number, number + v, v * number, number * v, v - number, number - v, v / number, number / v):
        assert type(result) is Value
        assert type(result.data) is float


def test_long_chains_do_not_recurse() -> None:
    x = Value(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert (y.data, x.grad) == (100_001.0, 1.0)
    del y


def test_a_graph_is_freed_without_the_garbage_collector() -> None:
    x = Value(1.0)
    gc.disable()
    try:
        y = (x * 2).tanh()
        y.backward()
        result = weakref.ref(y)
        del y
        assert result() is None
    finally:
        gc.enable()


def test_relu_keeps_nan() -> None:
    x = Value(math.nan)
    y = x.relu()
    y.backward()
    assert math.isnan(y.data)
    assert x.grad == 1.0


def test_zero_to_the_power_of_a_value() -> None:
    for exponent, expected in ((0.5, 0.0), (0.0, 1.0), (2.0, 0.0)):
        x = Value(exponent)
        y = 0**x
        y.backward()
        assert (y.data, x.grad) == (expected, 0.0)
    with pytest.raises(ValueError, match=r"0 \*\* -1 is not finite"):
        0 ** Value(-1.0)


def test_an_infinite_base_of_a_power() -> None:
    x, base = Value(-2.0), Value(math.inf)
    y = base**x
    y.backward()
    assert (y.data, x.grad, base.grad) == (0.0, 0.0, 0.0)
