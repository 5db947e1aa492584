"""Layer normalization and RMS normalization, forward and backward in place.

BLAS computes sums over rows and columns, and products of a column with a row: NumPy's broadcasting takes more than twice
as long.

References
----------
.. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", https://arxiv.org/abs/1607.06450
.. [2] B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", https://arxiv.org/abs/1910.07467
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, empty_like, needs_grad, record
from axone.nn.functional.matmul import ones
from axone.nn.functional.validation import check_dtypes, check_last_axis


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5) -> Tensor:
    """Return each row of `x` shifted to mean 0, scaled to variance 1, then times `weight` plus `bias`.

    With ``xhat = r (x - m)``, m the mean and ``r = 1 / sqrt(var + eps)``, the gradient g, ``h = g weight``, and means
    over the row::

        dx = r (h - mean(h) - xhat mean(h xhat))    dweight = sum(g xhat)    dbias = sum(g)

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (C,)
    bias : Tensor, shape (C,), optional
    eps : float, default 1e-5
        Added to the variance, so that a constant row gives zeros.

    Returns
    -------
    Tensor, shape (..., C)

    Raises
    ------
    ValueError
        If the last axis of `x` does not have length C.
    TypeError
        If the dtypes differ.
    """
    check_dtypes("layer_norm", x, weight, bias)
    check_last_axis("layer_norm", x, weight.shape[0])
    C, shape, gamma = weight.shape[0], x.shape, weight.data
    has_bias = bias is not None
    rows = x.data.reshape(-1, C)  # (N, C)
    rows, n, r = _shift_and_scale(rows, eps)
    y = _outer(r, gamma)  # (N, C)
    y *= rows
    y += _outer(n, gamma, plus=None if bias is None else bias.data)
    needs_weight, needs_bias = needs_grad(weight), bias is not None and needs_grad(bias)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = g.reshape(-1, C)  # (N, C)
        gx: Array = np.multiply(g, rows, out=empty_like(g))
        dgamma = None
        if needs_weight:
            dgamma = r @ gx
            dgamma += n @ g
        share = gamma * (1 / C)
        shift, tilt = g @ share, gx @ share  # mean(h), mean(h x)
        tilt *= r
        tilt += shift * n  # mean(h xhat)
        tilt *= r
        shift *= r
        shift += tilt * n
        tilt *= r  # dx = r h - tilt x - shift
        dx = _outer(r, gamma)
        dx *= g
        np.multiply(rows, tilt[:, None], out=gx)
        gx += shift[:, None]
        dx -= gx
        dx = dx.reshape(shape)
        return (dx, dgamma, ones(len(g), g.dtype) @ g if needs_bias else None) if has_bias else (dx, dgamma)

    inputs = (x, weight) if bias is None else (x, weight, bias)
    return record("layer_norm", y.reshape(shape), inputs, vjp)


def _shift_and_scale(rows: Array, eps: float) -> tuple[Array, Array, Array]:
    """Return rows x, and for each row n and r with ``xhat = r x + n``.

    The variance is the mean of the squares minus the square of the mean. If a mean is larger than its deviation, that
    difference loses digits: the rows are then centered first, and returned centered.
    """
    C = rows.shape[1]
    n = rows @ ones(C, rows.dtype)  # (N,)
    n *= -1 / C
    variance: Array = np.vecdot(rows, rows)
    variance *= 1 / C
    squared = n * n
    variance -= squared
    if np.logical_or.reduce(squared > variance):
        rows = rows + n[:, None]
        return rows, np.zeros_like(n), _reciprocal_root(np.vecdot(rows, rows) / C, eps)
    r = _reciprocal_root(variance, eps)
    n *= r
    return rows, n, r


def _reciprocal_root(mean_square: Array, eps: float) -> Array:
    """Return ``1 / sqrt(mean_square + eps)``, in place."""
    mean_square += eps
    np.sqrt(mean_square, out=mean_square)
    np.reciprocal(mean_square, out=mean_square)
    return mean_square


def _outer(column: Array, row: Array, *, plus: Array | None = None) -> Array:
    """Return the outer product of a column and a row, plus a row, as one BLAS product of rank two.

    Parameters
    ----------
    column : ndarray, shape (N,)
    row : ndarray, shape (C,)
    plus : ndarray, shape (C,), optional

    Returns
    -------
    ndarray, shape (N, C)
    """
    left = np.empty((len(column), 2), column.dtype)
    left[:, 0] = column
    left[:, 1] = 1
    right = np.zeros((2, len(row)), row.dtype)
    right[0] = row
    if plus is not None:
        right[1] = plus
    return np.matmul(left, right, out=empty((len(column), len(row)), column.dtype))


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Return each row of `x` divided by its root mean square, then times `weight`.

    With ``xhat = r x``, ``r = 1 / sqrt(mean(x^2) + eps)``, the gradient g and ``h = g weight``::

        dx = r (h - xhat mean(h xhat))        dweight = sum(g xhat)

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (C,)
    eps : float, default 1e-6
        Added to the mean square, so that a row of zeros gives zeros.

    Returns
    -------
    Tensor, shape (..., C)

    Raises
    ------
    ValueError
        If the last axis of `x` does not have length C.
    TypeError
        If the dtypes differ.
    """
    check_dtypes("rms_norm", x, weight)
    check_last_axis("rms_norm", x, weight.shape[0])
    C, shape, gamma = weight.shape[0], x.shape, weight.data
    rows = x.data.reshape(-1, C)  # (N, C)
    r = _reciprocal_root(np.vecdot(rows, rows) / C, eps)  # (N,)
    y = _outer(r, gamma)  # (N, C)
    y *= rows
    needs_weight = needs_grad(weight)

    def vjp(g: Array) -> tuple[Array, Array | None]:
        g = g.reshape(-1, C)  # (N, C)
        gx: Array = np.multiply(g, rows, out=empty_like(g))
        dgamma = r @ gx if needs_weight else None
        tilt = gx @ (gamma / C)
        tilt *= r * r * r
        dx = _outer(r, gamma)
        dx *= g
        np.multiply(rows, tilt[:, None], out=gx)
        dx -= gx
        return dx.reshape(shape), dgamma

    return record("rms_norm", y.reshape(shape), (x, weight), vjp)
