"""Tail probability of the normal distribution on arrays; NumPy has no error function.

With ``z = x / sqrt(2)`` and ``t = 2 / (2 + z)`` in (0, 1], the complementary error function is ``t exp(-z^2) h(t)``, and
h is so smooth that a short Chebyshev series gives all digits [1]_. The series is fitted once to ``math.erfc`` of the
standard library.

References
----------
.. [1] M. M. Shepherd, J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x)", Mathematics of
   Computation 36 (1981), https://doi.org/10.1090/S0025-5718-1981-0595058-X
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev, cheb2poly
from numpy.typing import NDArray

from axone.autograd.extend import Array

_FAR = 14.0  # erfc(14) is 5e-87
_NEAREST = 2 / (2 + _FAR)


def normal_tail(x: Array) -> tuple[Array, Array]:
    """Return the probability that a standard normal variable exceeds x, and its density at x.

    Parameters
    ----------
    x : ndarray, shape (...)
        Not negative.

    Returns
    -------
    tail, density : ndarray, shape (...)
        In the dtype of `x`; the relative error is below 2e-7 in float32 and 2e-15 in float64.
    """
    z = np.minimum(x, _FAR * math.sqrt(2))
    z *= math.sqrt(0.5)
    t = 2 / (z + 2)
    density = np.square(z)
    np.negative(density, out=density)
    np.exp(density, out=density)
    s = (t - _NEAREST) * (2 / (1 - _NEAREST)) - 1  # from -1 to 1
    tail = _polynomial(_series(10 if x.dtype == np.float32 else 20), s)
    tail *= t
    tail *= density
    tail *= 0.5
    density *= 1 / math.sqrt(2 * math.pi)
    return tail, density


def _polynomial(coefficients: tuple[float, ...], s: Array) -> Array:
    """Return the polynomial at s, by Horner's rule."""
    p = np.full_like(s, coefficients[-1])
    for c in coefficients[-2::-1]:
        p *= s
        p += c
    return p


@functools.cache
def _series(degree: int) -> tuple[float, ...]:
    """Return the coefficients of h as a polynomial in s, lowest first; they decrease fast, so no digits cancel."""

    def h(t: NDArray[np.float64]) -> NDArray[np.float64]:
        z = 2 / t - 2
        scaled: NDArray[Any] = np.array([math.erfc(v) * math.exp(v * v) for v in z])
        return scaled / t

    return tuple(cheb2poly(Chebyshev.interpolate(h, degree, domain=[_NEAREST, 1]).coef).tolist())
