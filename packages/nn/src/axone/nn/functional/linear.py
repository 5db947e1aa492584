"""Affine map ``x W^T + b``.

With the rows of x and the gradient g flattened to matrices::

    dx = g W        dW = g^T x        db = sum of the rows of g
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, Gradient, Product, needs_grad, record
from axone.nn.functional.int8 import Int8Weight
from axone.nn.functional.matmul import MatmulGradient, matmul, ones
from axone.nn.functional.validation import check_dtypes, check_last_axis

Forward: TypeAlias = Callable[[Array], Array]
"""From rows (N, C), or one vector (C,), to a new array, without a tape."""
Weight: TypeAlias = Array | Int8Weight
"""Of shape (out, in)."""
Dense: TypeAlias = Callable[[Weight, Array | None], Forward]
"""From a weight (out, in) and a bias (out,) or None to the function that computes ``x W^T + b``."""

_FEW_ROWS = 64


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
        If the last axis of `x` does not have length `in_features`.
    TypeError
        If the dtypes differ.
    """
    check_dtypes("linear", x, weight, bias)
    check_last_axis("linear", x, weight.shape[1])
    w, shape = weight.data, x.shape
    rows = x.data.reshape(-1, w.shape[1])  # (N, in)
    y = matmul(rows, w.T)  # (N, out)
    if bias is not None:
        y += bias.data
    needs_x, has_bias = needs_grad(x), bias is not None
    saved = rows if needs_grad(weight) else None  # a frozen weight keeps no activations alive

    def vjp(g: Array) -> tuple[Gradient, ...]:
        g = g.reshape(-1, w.shape[0])  # (N, out)
        dx = matmul(g, w).reshape(shape) if needs_x else None
        dw = None if saved is None else MatmulGradient(g.T, saved)
        return (dx, dw, Product(ones(len(g), g.dtype), g)) if has_bias else (dx, dw)

    inputs = (x, weight) if bias is None else (x, weight, bias)
    return record("linear", y.reshape(*shape[:-1], w.shape[0]), inputs, vjp)


def dense_product(weight: Weight, bias: Array | None = None) -> Forward:
    """Return the function that computes ``x W^T + b`` by one call of BLAS.

    Parameters
    ----------
    weight : ndarray or Int8Weight, shape (out_features, in_features)
    bias : ndarray, shape (out_features,), optional

    Returns
    -------
    callable
        From (N, in_features) to (N, out_features), or from (in_features,) to (out_features,).
    """
    if isinstance(weight, Int8Weight):
        return weight.product(bias)
    transposed = weight.T
    copied = not transposed.flags.c_contiguous  # BLAS copies the second of two matrices unless it is row-major

    def forward(x: Array) -> Array:
        few = copied and x.ndim == 2 and len(x) <= _FEW_ROWS  # then a copy of x is cheaper than one of the weight
        y: Array = np.ascontiguousarray(weight.dot(x.T).T) if few else x.dot(transposed)
        if bias is not None:
            y += bias
        return y

    return forward if copied or bias is not None else lambda x: x.dot(transposed)
