"""Matrix products."""

import math

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.deferred import Product
from axone.autograd.ops.operands import operands
from axone.autograd.tape import Gradient
from axone.autograd.tensor import Operand, Tensor, needs_grad, record


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
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise _misfit(x, y)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    if y.ndim == 2 and x.ndim >= 2:  # one product for all rows, as in every linear layer
        count = math.prod(x.shape[:-1])
        rows = x.reshape(count, x.shape[-1])  # (N, k)
        data = rows @ y if x.ndim == 2 else (rows @ y).reshape(*x.shape[:-1], y.shape[1])

        def vjp_of_rows(g: Array) -> tuple[Gradient, Gradient]:
            g = g.reshape(count, y.shape[1])  # (N, m)
            dx: Gradient = None
            if needs_a:
                dx = Product(g, y.T) if x.ndim == 2 else (g @ y.T).reshape(x.shape)
            return dx, Product(rows.T, g) if needs_b else None

        return record("matmul", data, (a, b), vjp_of_rows)

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

    try:
        data = np.matmul(x, y)
    except ValueError:
        raise _misfit(x, y) from None
    return record("matmul", data, (a, b), vjp)


def _misfit(x: Array, y: Array) -> ValueError:
    return ValueError(f"matmul needs shapes (..., n, k) and (..., k, m), and these are {x.shape} and {y.shape}")
