"""Elementwise arithmetic with broadcasting: sums, products, quotients, remainders and powers."""

from __future__ import annotations

import numpy as np

from axone.autograd.arrays import SMALL, Array, mask_gradient
from axone.autograd.memory import empty_like
from axone.autograd.ops.dtypes import misfit, operands, values
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor, needs_grad


def add(a: Operand, b: Operand) -> Tensor:
    """Return ``a + b``.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.add([1.0, 2.0], 10.0)
    Tensor([11., 12.])
    """
    x, y = operands("add", a, b)
    try:
        data = x + y if x.size <= SMALL else _sum_of_many(x, y)
    except ValueError:
        raise misfit("add", x, y) from None
    return record("add", data, (a, b), _twice)


def _sum_of_many(x: Array, y: Array) -> Array:
    """Return ``x + y``, in reused memory if both have one shape, as the two inputs of a residual connection have."""
    alike = x.shape == y.shape and x.dtype == y.dtype
    return np.add(x, y, out=empty_like(x)) if alike else x + y


def _twice(g: Array) -> tuple[Array, Array]:
    return g, g


def subtract(a: Operand, b: Operand) -> Tensor:
    """Return ``a - b``.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.subtract([1.0, 2.0], 10.0)
    Tensor([-9., -8.])
    """
    x, y = operands("subtract", a, b)
    needs_b = needs_grad(b)
    try:
        data = x - y
    except ValueError:
        raise misfit("subtract", x, y) from None
    return record("subtract", data, (a, b), lambda g: (g, -g if needs_b else None))


def multiply(a: Operand, b: Operand) -> Tensor:
    """Return ``a * b``, element by element.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.multiply([[1.0], [2.0]], [3.0, 4.0])  # broadcast to (2, 2)
    Tensor([[3., 4.],
            [6., 8.]])
    """
    if a is b:
        return _square("multiply", a)
    x, y = operands("multiply", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return g * y if needs_a else None, g * x if needs_b else None

    try:
        data = x * y
    except ValueError:
        raise misfit("multiply", x, y) from None
    return record("multiply", data, (a, b), vjp)


def square(x: Operand) -> Tensor:
    """Return the square of each element.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.square([1.0, -3.0])
    Tensor([1., 9.])
    """
    return _square("square", x)


def _square(name: str, a: Operand) -> Tensor:
    """Return ``a * a``, with one gradient instead of two that the engine would have to add."""
    x = values(a)

    def vjp(g: Array) -> tuple[Array]:
        dx = g * x
        dx += dx
        return (dx,)

    return record(name, x * x, (a,), vjp)


def divide(a: Operand, b: Operand) -> Tensor:
    """Return ``a / b``.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.divide([1.0, 2.0], 4.0)
    Tensor([0.25, 0.5 ])
    """
    x, y = operands("divide", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    try:
        quotient = x / y
    except ValueError:
        raise misfit("divide", x, y) from None

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        part = g / y
        return part if needs_a else None, -part * quotient if needs_b else None

    return record("divide", quotient, (a, b), vjp)


def remainder(a: Operand, b: Operand) -> Tensor:
    """Return the remainder of ``a / b`` with the sign of `b`, as ``a % b`` does.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.remainder([5.0, -5.0], 3.0)
    Tensor([2., 1.])
    """
    x, y = operands("remainder", a, b)
    needs_b = needs_grad(b)
    try:
        data = np.remainder(x, y)
    except ValueError:
        raise misfit("remainder", x, y) from None
    return record("remainder", data, (a, b), lambda g: (g, -g * np.floor_divide(x, y) if needs_b else None))


def power(a: Operand, b: Operand) -> Tensor:
    """Return ``a ** b``.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast. A Python number as the exponent is much faster than an array.

    Returns
    -------
    Tensor, broadcast shape

    Notes
    -----
    The derivative with respect to the exponent is ``a ** b * log(a)``: zero at ``0 ** 0``, NaN where `a` is negative.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.power([1.0, 2.0, 3.0], 2)
    Tensor([1., 4., 9.])
    """
    if isinstance(b, (int, float)):
        return _power_of_number(a, float(b) if isinstance(b, float) else int(b))  # a NumPy float would widen
    x, y = operands("power", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    try:
        result = x**y
    except ValueError as error:
        if "broadcast" not in str(error):  # a negative power of integers
            raise
        raise misfit("power", x, y) from None

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        base = exponent = None
        if needs_a:  # an exponent of 0 has the derivative 0 at every base, also where x ** -1 is not finite
            base = mask_gradient(g * y * np.power(x, np.where(y == 0, 0, y - 1)), y != 0)
        if needs_b:  # 0 at 0 ** 2 and inf ** -2, the limits of x ** y log(x); and at 0 ** 0, as in PyTorch
            nonzero = (x < 0) | (result != 0) & ((x != 0) | (y != 0))
            with np.errstate(invalid="ignore", divide="ignore"):
                exponent = mask_gradient(g * result * np.log(x), nonzero)
        return base, exponent

    return record("power", result, (a, b), vjp)


def _power_of_number(a: Operand, n: float) -> Tensor:
    """Return ``a ** n`` by NumPy's operator, which has fast paths for squares, roots and reciprocals."""
    x = values(a)

    def vjp(g: Array) -> tuple[Array]:
        if n == 0:  # the derivative is 0 at every base, also where x ** -1 is not finite
            return (np.zeros_like(g),)
        slope = x ** (n - 1)
        slope *= n
        slope *= g
        return (slope,)

    return record("power", x**n, (a,), vjp)


def positive(x: Operand) -> Tensor:
    """Return ``+x``, a copy.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.positive([1.0, -2.0])
    Tensor([ 1., -2.])
    """
    return record("positive", np.positive(values(x)), (x,), lambda g: (g,))


def negative(x: Operand) -> Tensor:
    """Return ``-x``.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.negative([1.0, -2.0])
    Tensor([-1.,  2.])
    """
    return record("negative", np.negative(values(x)), (x,), lambda g: (-g,))
