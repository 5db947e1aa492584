"""Linear map with a low-rank adapter: ``x W^T + b + s (d(x) A^T) B^T``.

With the rows of x and the gradient g flattened to matrices, the scale s and the dropout d::

    h = s d(x) A^T        u = s g B
    dB = g^T h            dA = u^T d(x)            dx = g W + d(u A)

References
----------
.. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, Gradient, Product, needs_grad, record
from axone.nn.functional.dropout import dropout_mask
from axone.nn.functional.intra_op import chunks, parallel_for
from axone.nn.functional.matmul import MatmulGradient, matmul, ones
from axone.nn.functional.validation import check_dtypes, check_last_axis

_ROWS = 64  # of a chunk of the low-rank product, which then stays in the cache until it is added


def lora_linear(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """Return ``x @ weight.T + bias``, plus the low-rank product ``scale * dropout(x) @ lora_A.T @ lora_B.T``.

    No gradient is computed for a weight, or for an `x`, that requires none.

    Parameters
    ----------
    x : Tensor, shape (..., in_features)
    weight : Tensor, shape (out_features, in_features)
    lora_A : Tensor, shape (rank, in_features)
    lora_B : Tensor, shape (out_features, rank)
    bias : Tensor, shape (out_features,), optional
    scale : float, default 1.0
        Multiplies the low-rank product.
    dropout : float, default 0.0
        Probability of dropping an element of the low-rank product's input, in [0, 1).
    rng : numpy.random.Generator, optional
        Draws the mask; needed with dropout.

    Returns
    -------
    Tensor, shape (..., out_features)

    Raises
    ------
    ValueError
        If a shape does not fit, or there is dropout without `rng`.
    TypeError
        If the dtypes differ.
    """
    check_dtypes("lora_linear", x, weight, lora_A, lora_B, bias)
    check_last_axis("lora_linear", x, weight.shape[1])
    w, a, b, shape = weight.data, lora_A.data, lora_B.data, x.shape
    if a.shape[1:] != w.shape[1:] or b.shape != (len(w), len(a)):
        raise ValueError(
            f"lora_A of shape {a.shape} and lora_B of shape {b.shape} must have shapes (rank, {w.shape[1]}) and "
            f"({len(w)}, rank)"
        )
    rows = x.data.reshape(-1, w.shape[1])  # (N, in)
    keep = None
    if dropout:
        if rng is None:
            raise ValueError(f"dropout ({dropout}) needs rng, a numpy.random.Generator")
        keep = dropout_mask(rows.shape, dropout, rows.dtype, rng=rng)  # (N, in)
    factor = w.dtype.type(scale)
    h = matmul(rows if keep is None else rows * keep, a.T)  # (N, rank)
    h *= factor
    y = matmul(rows, w.T)  # (N, out)
    if bias is not None:
        y += bias.data
    _add_product(y, h, b.T)
    needs_x, needs_w, needs_a, has_bias = needs_grad(x), needs_grad(weight), needs_grad(lora_A), bias is not None
    saved = rows if needs_w or needs_a else None

    def vjp(g: Array) -> tuple[Gradient, ...]:
        g = g.reshape(-1, w.shape[0])  # (N, out)
        dx: Array | None = None
        dw: Gradient = None
        da: Gradient = None
        u = matmul(g, b)  # (N, rank)
        u *= factor
        if needs_x:
            dx = matmul(g, w)  # (N, in)
            _add_product(dx, u, a, keep)
            dx = dx.reshape(shape)
        if saved is not None:
            dw = MatmulGradient(g.T, saved) if needs_w else None
            if needs_a:
                dropped = saved if keep is None else saved * keep
                da = matmul(dropped.T, u).T  # u^T x, in the order that is 2.5 times as fast
        grads = dx, dw, da, MatmulGradient(g.T, h)
        return (*grads, Product(ones(len(g), g.dtype), g)) if has_bias else grads

    inputs = (x, weight, lora_A, lora_B) if bias is None else (x, weight, lora_A, lora_B, bias)
    return record("lora_linear", y.reshape(*shape[:-1], w.shape[0]), inputs, vjp)


def _add_product(out: Array, left: Array, right: Array, keep: Array | None = None) -> None:
    """Add ``left @ right`` to an array, times a mask if given, in chunks of rows that stay in the cache."""

    def add(part: slice) -> None:
        for start in range(part.start, part.stop, _ROWS):
            chunk = slice(start, min(start + _ROWS, part.stop))
            product = left[chunk] @ right
            if keep is not None:
                product *= keep[chunk]
            out[chunk] += product

    parallel_for(add, chunks(len(out), multiple_of=_ROWS, work=right.size))
