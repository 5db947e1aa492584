"""Matrix products."""

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.ops.elementwise import operands
from axone.autograd.tensor import Operand, Tensor, needs_grad, record


def matmul(a: Operand, b: Operand) -> Tensor:
    """Return the matrix product ``a @ b``, over leading axes that broadcast.

    Vectors are taken as in NumPy: a row on the left, a column on the right.
    """
    x, y = operands("matmul", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)
    try:
        data = np.asarray(np.matmul(x, y))
    except ValueError:
        raise ValueError(
            f"matmul needs shapes (..., n, k) and (..., k, m), and these are {x.shape} and {y.shape}"
        ) from None

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
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

    return record("matmul", data, (a, b), vjp)
