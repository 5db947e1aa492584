"""Activation functions, forward and backward in place.

References
----------
.. [1] D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units (GELUs)", https://arxiv.org/abs/1606.08415
"""

import math

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, record

_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def gelu(x: Tensor) -> Tensor:
    """Return the Gaussian error linear unit, in its tanh approximation.

    With ``u = sqrt(2 / pi) (x + 0.044715 x^3)`` and ``t = tanh(u)``::

        y = x (1 + t) / 2        dy/dx = (1 + t) / 2 + x (1 - t^2) / 2 * du/dx

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    data = x.data
    t = data * data
    t *= _SCALE * _CUBIC
    t += _SCALE
    t *= data
    np.tanh(t, out=t)
    y = t + 1.0
    y *= data
    y *= 0.5

    def vjp(g: Array) -> tuple[Array]:
        slope = data * data
        slope *= 3 * _SCALE * _CUBIC
        slope += _SCALE
        slope *= data  # x du/dx
        rest = t * t
        np.subtract(1.0, rest, out=rest)
        slope *= rest
        slope += t
        slope += 1.0
        slope *= 0.5
        slope *= g
        return (slope,)

    return record("gelu", y, (x,), vjp)
