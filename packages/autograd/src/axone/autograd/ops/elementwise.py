"""Operations on each element, with broadcasting: arithmetic, powers, exponentials, non-linearities."""

from collections.abc import Callable
from typing import Any

import numpy as np

from axone.autograd.arrays import Array, to_array
from axone.autograd.tensor import Operand, Tensor, needs_grad, raw, record


def operands(name: str, a: Operand, b: Operand) -> tuple[Array, Array]:
    """Return the arrays of two operands in one dtype: whatever is not a Tensor adopts the Tensor's.

    Raises
    ------
    TypeError
        If two Tensors have different floating-point dtypes.
    """
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.data.dtype == b.data.dtype:
                return a.data, b.data
            return _common_dtype(name, a.data, b.data)
        return a.data, _adopt(b, a.data)
    if isinstance(b, Tensor):
        return _adopt(a, b.data), b.data
    return to_array(a), to_array(b)


def _adopt(value: Any, beside: Array) -> Array:
    if beside.dtype.kind != "f":
        return np.asarray(value)
    return np.asarray(value, dtype=beside.dtype)


def _common_dtype(name: str, x: Array, y: Array) -> tuple[Array, Array]:
    floating = [array.dtype for array in (x, y) if array.dtype.kind == "f"]
    if len(floating) == 2:
        raise TypeError(
            f"{name} needs two Tensors of one floating-point dtype, and these are {x.dtype} and {y.dtype}: convert one"
        )
    if floating:
        return np.asarray(x, dtype=floating[0]), np.asarray(y, dtype=floating[0])
    return x, y


def broadcast(name: str, ufunc: Callable[[Array, Array], Array], x: Array, y: Array) -> Array:
    """Apply a binary ufunc, with an error that names the operation if the shapes do not broadcast."""
    try:
        return ufunc(x, y)
    except ValueError:
        raise ValueError(f"{name} needs shapes that broadcast, and these are {x.shape} and {y.shape}") from None


def add(a: Operand, b: Operand) -> Tensor:
    """Return ``a + b``."""
    x, y = operands("add", a, b)
    return record("add", broadcast("add", np.add, x, y), (a, b), lambda g: (g, g))


def subtract(a: Operand, b: Operand) -> Tensor:
    """Return ``a - b``."""
    x, y = operands("subtract", a, b)
    needs_b = needs_grad(b)
    return record("subtract", broadcast("subtract", np.subtract, x, y), (a, b), lambda g: (g, -g if needs_b else None))


def multiply(a: Operand, b: Operand) -> Tensor:
    """Return ``a * b``."""
    x, y = operands("multiply", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return g * y if needs_a else None, g * x if needs_b else None

    return record("multiply", broadcast("multiply", np.multiply, x, y), (a, b), vjp)


def divide(a: Operand, b: Operand) -> Tensor:
    """Return ``a / b``."""
    x, y = operands("divide", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    quotient = broadcast("divide", np.divide, x, y)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        part = g / y
        return part if needs_a else None, -part * quotient if needs_b else None

    return record("divide", quotient, (a, b), vjp)


def power(a: Operand, b: Operand) -> Tensor:
    """Return ``a ** b``."""
    x, y = operands("power", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    result = broadcast("power", np.power, x, y)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        base = exponent = None
        if needs_a:  # where the exponent is 0 the slope is 0, also at 0, where x ** -1 is not finite
            base = g * y * np.power(x, np.where(y == 0, 1, y - 1))
        if needs_b:  # the limit of x ** y * log(x) at x = 0 is 0
            exponent = g * result * np.log(np.where(x > 0, x, 1))
        return base, exponent

    return record("power", result, (a, b), vjp)


def negative(x: Tensor) -> Tensor:
    """Return ``-x``."""
    return record("negative", np.negative(x.data), (x,), lambda g: (-g,))


def exp(x: Operand) -> Tensor:
    """Return e to the power of each element."""
    result = np.exp(to_array(raw(x)))
    return record("exp", result, (x,), lambda g: (g * result,))


def log(x: Operand) -> Tensor:
    """Return the natural logarithm of each element."""
    data = to_array(raw(x))
    return record("log", np.log(data), (x,), lambda g: (g / data,))


def tanh(x: Operand) -> Tensor:
    """Return the hyperbolic tangent of each element."""
    result = np.tanh(to_array(raw(x)))
    return record("tanh", result, (x,), lambda g: (g * (1 - result * result),))
