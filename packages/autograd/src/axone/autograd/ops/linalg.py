"""Matrix products."""

import math

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.deferred import Product
from axone.autograd.ops.operands import operands
from axone.autograd.tape import VJP, Gradient
from axone.autograd.tensor import Operand, Tensor, is_leaf, needs_grad, record

_SMALL = 4096  # elements: up to here a copy costs less than a recipe


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
    """
    x, y = operands("matmul", a, b)
    try:
        if y.ndim == 2 and x.ndim > 2:  # one product for all rows
            return _rows_times_matrix(a, b, x, y)
        data = np.matmul(x, y)
    except ValueError:
        raise ValueError(
            f"matmul needs shapes (..., n, k) and (..., k, m), and these are {x.shape} and {y.shape}"
        ) from None
    if x.ndim == 2 and y.ndim == 2:
        return record("matmul", data, (a, b), _vjp_of_matrices(a, b, x, y))
    return record("matmul", data, (a, b), _vjp_of_stacks(a, b, x, y))


def _vjp_of_matrices(a: Operand, b: Operand, x: Array, y: Array) -> VJP:
    """Return the product for two matrices; the gradient of a weight goes straight where it belongs."""
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    weight_a, weight_b = x.size > _SMALL and is_leaf(a), y.size > _SMALL and is_leaf(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        dx: Gradient = None
        dy: Gradient = None
        if needs_a:
            dx = Product(g, y.T) if weight_a else g @ y.T
        if needs_b:
            dy = Product(x.T, g) if weight_b else x.T @ g
        return dx, dy

    return vjp


def _rows_times_matrix(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of a matrix with the rows of a stack, as in every linear layer."""
    count, height = math.prod(x.shape[:-1]), y.shape[1]
    rows = x.reshape(count, x.shape[-1])  # (N, k)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        g = g.reshape(count, height)  # (N, m)
        return (g @ y.T).reshape(x.shape) if needs_a else None, Product(rows.T, g) if needs_b else None

    return record("matmul", (rows @ y).reshape(*x.shape[:-1], height), (a, b), vjp)


def _vjp_of_stacks(a: Operand, b: Operand, x: Array, y: Array) -> VJP:
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

    return vjp
