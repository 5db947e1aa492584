"""The affine map ``x W^T + b``.

With the rows of x and the gradient g flattened to matrices::

    dx = g W        dW = g^T x        db = sum of the rows of g
"""

from axone.autograd import Tensor
from axone.autograd.extend import Array, Gradient, Product, needs_grad, record
from axone.nn.functional.blocked_matmul import BlockedProduct, matmul, ones
from axone.nn.functional.validation import last_axis, one_dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias``.

    Parameters
    ----------
    x : Tensor, shape (..., in_features)
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (..., out_features)

    Raises
    ------
    ValueError
        If the last axis of `x` is not `in_features` long.
    TypeError
        If the dtypes differ.
    """
    one_dtype("linear", x, weight, bias)
    last_axis("linear", x, weight.shape[1])
    w, shape = weight.data, x.shape
    rows = x.data.reshape(-1, w.shape[1])  # (N, in)
    y = matmul(rows, w.T)  # (N, out)
    if bias is not None:
        y += bias.data
    needs_x, needs_w, has_bias = needs_grad(x), needs_grad(weight), bias is not None

    def vjp(g: Array) -> tuple[Gradient, ...]:
        g = g.reshape(-1, w.shape[0])  # (N, out)
        dx = matmul(g, w).reshape(shape) if needs_x else None
        dw = BlockedProduct(g.T, rows) if needs_w else None
        return (dx, dw, Product(ones(len(g), g.dtype), g)) if has_bias else (dx, dw)

    inputs = (x, weight) if bias is None else (x, weight, bias)
    return record("linear", y.reshape(*shape[:-1], w.shape[0]), inputs, vjp)
