"""Matrix products."""

import math

import numpy as np

from axone.autograd.arrays import SMALL, Array
from axone.autograd.deferred import Product
from axone.autograd.ops.operands import operands
from axone.autograd.record import record
from axone.autograd.tape import Gradient
from axone.autograd.tensor import Operand, Tensor, is_leaf, needs_grad


def matmul(a: Operand, b: Operand) -> Tensor:
    """Return the matrix product ``a @ b``, over leading axes that broadcast.

    Parameters
    ----------
    a : Tensor or array_like, shape (..., n, k) or (k,)
    b : Tensor or array_like, shape (..., k, m) or (k,)
        Vectors are taken as in NumPy: a row on the left, a column on the right.

    Returns
    -------
    Tensor, shape (..., n, m)
        Without the axis that a vector does not have.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
    Tensor([21., 43.])
    """
    x, y = operands("matmul", a, b)
    try:
        if x.ndim == 2 and y.ndim == 2:
            return (_small if x.size <= SMALL and y.size <= SMALL else _large)(a, b, x, y)
        if y.ndim == 2 and x.ndim > 2:
            return _rows_times_matrix(a, b, x, y)
        return _stacks(a, b, x, y)
    except ValueError:
        raise ValueError(
            f"matmul needs shapes (..., n, k) and (..., k, m), and these are {x.shape} and {y.shape}"
        ) from None


def _small(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of two small matrices: `dot` starts in a quarter of the time, and copies what is strided."""
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return g.dot(y.T) if needs_a else None, x.T.dot(g) if needs_b else None

    return record("matmul", x.dot(y), (a, b), vjp)


def _large(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of two matrices; the gradient of a weight goes straight where it belongs."""
    needs_a, needs_b, weight_a, weight_b = needs_grad(a), needs_grad(b), is_leaf(a), is_leaf(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        dx: Gradient = None
        dy: Gradient = None
        if needs_a:
            dx = Product(g, y.T) if weight_a else g @ y.T
        if needs_b:
            dy = Product(x.T, g) if weight_b else x.T @ g
        return dx, dy

    return record("matmul", x @ y, (a, b), vjp)


def _rows_times_matrix(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of all rows of a stack with one matrix, as in every linear layer."""
    count, height = math.prod(x.shape[:-1]), y.shape[1]
    rows = x.reshape(count, x.shape[-1])  # (N, k)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        g = g.reshape(count, height)  # (N, m)
        return (g @ y.T).reshape(x.shape) if needs_a else None, Product(rows.T, g) if needs_b else None

    return record("matmul", (rows @ y).reshape(*x.shape[:-1], height), (a, b), vjp)


def _stacks(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product in general: vectors, and stacks of matrices that broadcast."""
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        left = x[None, :] if x.ndim == 1 else x  # (..., n, k)
        right = y[:, None] if y.ndim == 1 else y  # (..., k, m)
        g = g[..., None] if y.ndim == 1 else g
        g = g[..., None, :] if x.ndim == 1 else g  # (..., n, m)
        dx = dy = None
        if needs_a:
            dx = g @ right.swapaxes(-1, -2)
            dx = dx[..., 0, :] if x.ndim == 1 else dx
        if needs_b:
            dy = left.swapaxes(-1, -2) @ g
            dy = dy[..., 0] if y.ndim == 1 else dy
        return dx, dy

    return record("matmul", np.matmul(x, y), (a, b), vjp)
