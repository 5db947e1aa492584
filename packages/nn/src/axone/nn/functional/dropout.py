"""Dropout: zeroes random elements in training and scales up the others.

References
----------
.. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
   https://jmlr.org/papers/v15/srivastava14a.html
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import record
from axone.nn.functional.validation import check_dtypes


def dropout(x: Tensor, p: float, *, rng: np.random.Generator) -> Tensor:
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
    check_dtypes("dropout", x)
    if not 0 <= p < 1:
        raise ValueError(f"p ({p}) must be in [0, 1)")
    keep = (rng.random(x.shape, dtype=np.float32) >= p).astype(x.dtype)
    keep /= 1 - p
    return record("dropout", x.data * keep, (x,), lambda g: (g * keep,))
