"""Value: a number that knows where it came from. The whole idea of automatic differentiation, in one file.

Computing with Values computes numbers as usual, and on the way builds a graph: each result remembers the Values it was
computed from, its *inputs*, and how steeply it changes with each of them, its *slopes*. For ``c = a * b`` the slope
with respect to `a` is `b`, and the other way round.

The chain rule then says how the last result changes with the first inputs: along one path through the graph the slopes
multiply, and over several paths the products add up. `Value.backward` walks from the result to the inputs once and
applies both: each Value hands its gradient, times the slope, to each of its inputs, which adds up what it gets.

That is all there is to it. `Tensor` does the same with arrays instead of numbers, a thousand times faster; nothing
here depends on it, nor on NumPy.

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
    """A number that remembers what it was computed from, so that gradients can be walked back.

    Parameters
    ----------
    data : float
        The number.

    Attributes
    ----------
    data : float
        The number.
    grad : float
        How steeply the result that `backward` was called on changes with this number. It adds up over several
        backwards, until it is set to zero.

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
    >>> round(w1.grad, 4), round(w2.grad, 4), round(b.grad, 4)
    (1.1932, 0.2983, 0.5966)
    """

    __slots__ = ("__weakref__", "_inputs", "_operation", "_slopes", "data", "grad")

    __array_ufunc__ = None  # a NumPy number on the left then leaves the operation to us

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
            raise ZeroDivisionError(f"a Value cannot be divided by zero, and this is {self.data:g} / 0")
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
        """Return e to the power of this.

        Raises
        ------
        OverflowError
            If the result is too large for a float: for more than 709.
        """
        try:
            power = math.exp(self.data)
        except OverflowError:
            raise OverflowError(f"exp of more than 709 is too large for a float, and this is {self.data:g}") from None
        return _result(power, "exp", (self,), (power,))

    def log(self) -> Value:
        """Return the natural logarithm.

        Raises
        ------
        ValueError
            If this is not positive.
        """
        if self.data <= 0:
            raise ValueError(f"log needs a positive Value, and this is {self.data:g}")
        return _result(math.log(self.data), "log", (self,), (1 / self.data,))

    def tanh(self) -> Value:
        """Return the hyperbolic tangent: an S-curve from -1 to 1."""
        t = math.tanh(self.data)
        return _result(t, "tanh", (self,), (1 - t * t,))

    def sigmoid(self) -> Value:
        """Return ``1 / (1 + exp(-x))``: an S-curve from 0 to 1."""
        e = math.exp(-abs(self.data))  # at most 1: it cannot overflow
        near, far = 1 / (1 + e), e / (1 + e)  # the two add up to 1, and both keep all their digits
        return _result(near if self.data >= 0 else far, "sigmoid", (self,), (near * far,))

    def relu(self) -> Value:
        """Return this where it is positive, and else zero."""
        cut = self.data <= 0  # NaN is not, and stays
        return _result(0.0 if cut else self.data, "relu", (self,), (0.0 if cut else 1.0,))

    def leaky_relu(self, negative_slope: float = 0.01) -> Value:
        """Return this where it is positive, and else `negative_slope` times it.

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
        """Add to the `grad` of every Value that this was computed from how steeply this changes with it.

        The gradients of results on the way start from zero each time; those of the Values that the user made add up
        over several calls, so set them to zero in between.
        """
        order = _inputs_first(self)
        for value in order:
            if value._inputs:
                value.grad = 0.0
        self.grad += 1.0  # this changes with itself as steeply as can be
        for value in reversed(order):
            for source, slope in zip(value._inputs, value._slopes):
                source.grad += slope * value.grad

    def __repr__(self) -> str:
        origin = f", from={self._operation!r}" if self._operation else ""
        return f"Value({self.data:.4g}{origin})"


def _result(data: float, operation: str, inputs: tuple[Value, ...], slopes: tuple[float, ...]) -> Value:
    """Return the Value that an operation computed, joined to the graph."""
    result = Value(data)
    result._operation = operation
    result._inputs = inputs
    result._slopes = slopes
    return result


def _inputs_first(result: Value) -> list[Value]:
    """Return every Value that `result` was computed from, each after its own inputs: a topological order.

    A stack of our own instead of recursion: Python would stop at a depth of a thousand.
    """
    order: list[Value] = []
    entered: set[Value] = set()
    left: set[Value] = set()
    stack = [result]
    while stack:
        value = stack[-1]
        if value not in entered:
            entered.add(value)
            stack.extend(value._inputs)  # they come first, `value` waits below them
        else:
            stack.pop()
            if value not in left:
                left.add(value)
                order.append(value)
    return order


def _power_of_values(base: Value, exponent: Value) -> Value:
    """Return ``base ** exponent`` where both can change."""
    x, y = base.data, exponent.data
    power, along_exponent = _exponential(x, y)
    along_base = y * _power(x, y - 1) if y != 0 else 0.0
    return _result(power, "**", (base, exponent), (along_base, along_exponent))


def _exponential(x: float, y: float) -> tuple[float, float]:
    """Return ``x ** y`` and its slope with respect to y."""
    if x < 0:
        raise ValueError(
            f"a power whose exponent is a Value needs a base that is not negative, and this is {x:g} ** {y:g}: "
            "give the exponent as a plain number"
        )
    power = _power(x, y)
    return power, power * math.log(x) if x != 0 and power != 0 else 0.0


def _power(x: float, y: float) -> float:
    """Return ``x ** y`` as a real number, or say why there is none."""
    try:
        return math.pow(x, y)
    except ValueError:
        what = "is not finite" if x == 0 else "is not a real number"
        raise ValueError(f"{x:g} ** {y:g} {what}, and a Value or its slope would have to be") from None
    except OverflowError:
        raise OverflowError(f"{x:g} ** {y:g} is too large for a float") from None


def _number(data: object) -> float:
    """Return a plain number as a float."""
    if not isinstance(data, Real):
        raise TypeError(f"a Value holds one real number, and got {type(data).__name__}: take a Tensor for more")
    return float(data)
