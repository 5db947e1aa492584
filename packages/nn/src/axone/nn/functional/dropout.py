"""Dropout: zeroes random elements in training and scales up the others.

References
----------
.. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
   https://jmlr.org/papers/v15/srivastava14a.html
"""

from typing import Any, Never

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, record
from axone.nn.functional.validation import check_dtypes
from axone.nn.pytorch import unknown_argument


def dropout(x: Tensor, p: float, *, rng: np.random.Generator, **unknown: Never) -> Tensor:
    """Return `x` with each element zeroed with probability `p`, otherwise divided by ``1 - p``.

    Parameters
    ----------
    x : Tensor, shape (...)
    p : float
        In [0, 1).
    rng : numpy.random.Generator
        The generator of the mask.

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If `p` is not in [0, 1).
    """
    if unknown:
        raise unknown_argument("dropout", unknown)
    check_dtypes("dropout", x)
    if not 0 <= p < 1:
        raise ValueError(f"p ({p}) must be in [0, 1)")
    keep = dropout_mask(x.shape, p, x.dtype, rng=rng)
    return record("dropout", x.data * keep, (x,), lambda g: (g * keep,))


def dropout_mask(shape: tuple[int, ...], p: float, dtype: np.dtype[Any], *, rng: np.random.Generator) -> Array:
    """Return an array of factors: zero with probability `p`, otherwise ``1 / (1 - p)``.

    Parameters
    ----------
    shape : tuple of int
    p : float
        In [0, 1).
    dtype : dtype
    rng : numpy.random.Generator

    Returns
    -------
    ndarray
    """
    keep: Array = (rng.random(shape, dtype=np.float32) >= p).astype(dtype)
    keep /= 1 - p
    return keep
