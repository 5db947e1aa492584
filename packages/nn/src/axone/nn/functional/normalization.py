"""Layer normalization, forward and backward in place; sums over rows go through BLAS.

References
----------
.. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", https://arxiv.org/abs/1607.06450
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, record


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5) -> Tensor:
    """Return each row of `x` shifted to mean 0, scaled to variance 1, then times `weight` plus `bias`.

    With ``xhat = (x - mean) / sqrt(var + eps)``, r the reciprocal root, h = g weight, and means over the row::

        dx = r (h - mean(h) - xhat mean(h xhat))        dweight = sum(g xhat)        dbias = sum(g)

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
        If the last axis of `x` is not C long.
    """
    channels = weight.shape[0]
    if x.ndim == 0 or x.shape[-1] != channels:
        raise ValueError(f"layer_norm needs an input of shape (..., {channels}), and it has {x.shape}")
    shape, gamma = x.shape, weight.data
    rows = x.data.reshape(-1, channels)  # (N, C)
    average = np.full(channels, 1 / channels, rows.dtype)
    xhat = rows - (rows @ average)[:, None]  # (N, C)
    rstd = np.einsum("nc,nc->n", xhat, xhat)[:, None]  # (N, 1)
    rstd /= channels
    rstd += eps
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    xhat *= rstd
    y = xhat * gamma
    if bias is not None:
        y += bias.data

    def vjp(g: Array) -> tuple[Array, ...]:
        g = g.reshape(-1, channels)  # (N, C)
        dbias = np.ones(len(g), g.dtype) @ g
        dx = g * xhat
        dweight = np.ones(len(g), g.dtype) @ dx
        np.multiply(g, gamma, out=dx)
        shift = (dx @ average)[:, None]
        tilt = np.einsum("nc,nc->n", dx, xhat)[:, None]
        tilt /= channels
        np.multiply(xhat, tilt, out=xhat)
        dx -= xhat
        dx -= shift
        dx *= rstd
        return (dx.reshape(shape), dweight, dbias)[: len(inputs)]

    inputs = (x, weight) if bias is None else (x, weight, bias)
    return record("layer_norm", y.reshape(shape), inputs, vjp)
