"""Value: a number that records how it was computed. The whole idea of automatic differentiation, in one file.

Computing with Values computes numbers as usual, and builds a graph: each result holds the Values that it was computed
from, its *inputs*, and its derivative with respect to each of them, its *slopes*. For ``c = a * b`` the slope with
respect to `a` is `b`, and the slope with respect to `b` is `a`.

The chain rule gives the derivative of the last result with respect to the first inputs: along one path through the graph
the slopes multiply, and over several paths the products add up. `Value.backward` goes from the result to the inputs once
and applies both rules: each Value adds its gradient, times the slope, to the gradient of each of its inputs.

That is all there is to it. `Tensor` does the same with arrays instead of numbers, a thousand times faster; this module
depends neither on it nor on NumPy.

References
----------
.. [1] A. G. Baydin et al., "Automatic Differentiation in Machine Learning: a Survey",
   https://arxiv.org/abs/1502.05767
.. [2] A. Karpathy, "micrograd", https://github.com/karpathy/micrograd
"""

from __future__ import annotations

import math
from numbers import Real


class Value:
    """A number that records how it was computed, so that `backward` can compute gradients.

    Parameters
    ----------
    data : float
        The number.

    Attributes
    ----------
    data : float
        The number.
    grad : float
        The derivative, with respect to this number, of the result on which `backward` was called. It adds up over
        several backward passes, until you set it to zero.

    Raises
    ------
    TypeError
        If `data` is not a real number.

    Notes
    -----
    ``+ - * / **`` work between Values and Python numbers, on either side. There is no limit on the depth of a graph,
    and a graph stays as long as its result does.

    Examples
    --------
    One neuron with two inputs:

    >>> from axone.autograd import Value
    >>> w1, w2, b = Value(0.5), Value(-1.0), Value(0.25)
    >>> y = (w1 * 2.0 + w2 * 0.5 + b).tanh()
    >>> y
    Value(0.6351, from='tanh')
    >>> y.backward()
    >>> w1, w2, b
    (Value(0.5, grad=1.193), Value(-1, grad=0.2983), Value(0.25, grad=0.5966))
    """

    __slots__ = ("__weakref__", "_inputs", "_operation", "_slopes", "data", "grad")

    __array_ufunc__ = None  # lets Value handle an operation with a NumPy number on the left

    def __init__(self, data: float) -> None:
        self.data: float = data if type(data) is float else _number(data)
        self.grad: float = 0.0
        self._operation: str = ""
        self._inputs: tuple[Value, ...] = ()
        self._slopes: tuple[float, ...] = ()

    # Each operation below is its result and its slopes.

    def __add__(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        return _result(self.data + other.data, "+", (self, other), (1.0, 1.0))

    def __sub__(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        return _result(self.data - other.data, "-", (self, other), (1.0, -1.0))

    def __mul__(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        return _result(self.data * other.data, "*", (self, other), (other.data, self.data))

    def __truediv__(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        if other.data == 0:
            raise ZeroDivisionError(f"{self.data:g} / 0: a Value cannot be divided by zero")
        quotient = self.data / other.data
        return _result(quotient, "/", (self, other), (1 / other.data, -quotient / other.data))

    def __pow__(self, exponent: Value | float) -> Value:
        if isinstance(exponent, Value):
            return _power_of_values(self, exponent)
        n = _number(exponent)
        power = _power(self.data, n)
        slope = n * _power(self.data, n - 1) if n != 0 else 0.0
        return _result(power, f"** {n:g}", (self,), (slope,))

    def __neg__(self) -> Value:
        return _result(-self.data, "neg", (self,), (-1.0,))

    def exp(self) -> Value:
        """Return e to the power of this Value.

        Raises
        ------
        OverflowError
            If the result is too large for a float, as it is above 709.
        """
        try:
            power = math.exp(self.data)
        except OverflowError:
            raise OverflowError(f"exp({self.data:g}) is too large for a float: the Value must be at most 709") from None
        return _result(power, "exp", (self,), (power,))

    def log(self) -> Value:
        """Return the natural logarithm.

        Raises
        ------
        ValueError
            If this Value is not positive.
        """
        if self.data <= 0:
            raise ValueError(f"log({self.data:g}) does not exist: the Value must be positive")
        return _result(math.log(self.data), "log", (self,), (1 / self.data,))

    def tanh(self) -> Value:
        """Return the hyperbolic tangent, a sigmoid curve from -1 to 1."""
        t = math.tanh(self.data)
        return _result(t, "tanh", (self,), (1 - t * t,))

    def sigmoid(self) -> Value:
        """Return the logistic sigmoid ``1 / (1 + exp(-x))``."""
        e = math.exp(-abs(self.data))  # at most 1, so it cannot overflow
        near, far = 1 / (1 + e), e / (1 + e)  # near + far = 1, and both are accurate
        return _result(near if self.data >= 0 else far, "sigmoid", (self,), (near * far,))

    def relu(self) -> Value:
        """Return the rectified linear unit: the larger of this Value and zero."""
        cut = self.data <= 0  # false for NaN, which therefore stays NaN
        return _result(0.0 if cut else self.data, "relu", (self,), (0.0 if cut else 1.0,))

    def leaky_relu(self, negative_slope: float = 0.01) -> Value:
        """Return this Value if it is positive, otherwise `negative_slope` times it.

        Parameters
        ----------
        negative_slope : float, default 0.01
        """
        slope = 1.0 if self.data > 0 else negative_slope
        return _result(slope * self.data, "leaky_relu", (self,), (slope,))

    # With the Value on the right: ``2.0 - v``.

    def __radd__(self, other: float) -> Value:
        return Value(other) + self

    def __rsub__(self, other: float) -> Value:
        return Value(other) - self

    def __rmul__(self, other: float) -> Value:
        return Value(other) * self

    def __rtruediv__(self, other: float) -> Value:
        return Value(other) / self

    def __rpow__(self, base: float) -> Value:
        x = _number(base)
        power, slope = _exponential(x, self.data)
        return _result(power, f"{x:g} **", (self,), (slope,))

    def backward(self) -> None:
        """Add the derivative of this Value to the `grad` of every Value that it was computed from.

        The gradients of intermediate results start from zero in each call. Those of leaves, the Values that you created,
        add up over several calls: set them to zero in between.
        """
        order = _inputs_first(self)
        for value in order:
            if value._inputs:
                value.grad = 0.0
        self.grad += 1.0  # the derivative of a Value with respect to itself
        for value in reversed(order):
            for source, slope in zip(value._inputs, value._slopes):
                source.grad += slope * value.grad

    def __repr__(self) -> str:
        origin = f", from={self._operation!r}" if self._operation else ""
        gradient = f", grad={self.grad:.4g}" if self.grad else ""
        return f"Value({self.data:.4g}{gradient}{origin})"


def _result(data: float, operation: str, inputs: tuple[Value, ...], slopes: tuple[float, ...]) -> Value:
    """Return the Value that an operation computed, connected to the graph."""
    result = Value(data)
    result._operation = operation
    result._inputs = inputs
    result._slopes = slopes
    return result


def _inputs_first(result: Value) -> list[Value]:
    """Return every Value that `result` was computed from, each after its own inputs: a topological order.

    An explicit stack replaces recursion, which Python limits to a depth of about a thousand.
    """
    order: list[Value] = []
    entered: set[Value] = set()
    left: set[Value] = set()
    stack = [result]
    while stack:
        value = stack[-1]
        if value not in entered:
            entered.add(value)
            stack.extend(value._inputs)  # processed before `value`, which stays below them
        else:
            stack.pop()
            if value not in left:
                left.add(value)
                order.append(value)
    return order


def _power_of_values(base: Value, exponent: Value) -> Value:
    """Return ``base ** exponent`` of two Values."""
    x, y = base.data, exponent.data
    power, along_exponent = _exponential(x, y)
    along_base = y * _power(x, y - 1) if y != 0 else 0.0
    return _result(power, "**", (base, exponent), (along_base, along_exponent))


def _exponential(x: float, y: float) -> tuple[float, float]:
    """Return ``x ** y`` and its slope with respect to y."""
    if x < 0:
        raise ValueError(
            f"{x:g} ** {y:g} with a Value as the exponent has no slope, because the base is negative: pass the exponent "
            "as a number"
        )
    power = _power(x, y)
    return power, power * math.log(x) if x != 0 and power != 0 else 0.0


def _power(x: float, y: float) -> float:
    """Return ``x ** y`` as a real number; raise an error with the reason if there is no such number."""
    try:
        return math.pow(x, y)
    except ValueError:
        what = "is not finite" if x == 0 else "is not a real number"
        raise ValueError(f"{x:g} ** {y:g} {what}, which a Value and its slope must be") from None
    except OverflowError:
        raise OverflowError(f"{x:g} ** {y:g} is too large for a float") from None


def _number(data: object) -> float:
    """Return a plain number as a float."""
    if not isinstance(data, Real):
        raise TypeError(f"a Value needs one real number, got {type(data).__name__}: use a Tensor for arrays")
    return float(data)
