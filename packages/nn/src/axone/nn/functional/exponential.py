"""The exponentials under a softmax, in range.

Softmax does not change when a row is shifted, and the usual shift is by the row's largest score, so that nothing
overflows. Finding that and subtracting it costs half as much as the exponentials. But most scores need no shift at
all: their exponentials stay in range, which the sums of the rows show afterwards. Only if they do not is the work done
again, with the shift.
"""

import numpy as np

from axone.autograd.extend import Array

_SMALLEST, _LARGEST = 1e-20, 1e30  # of a row's sum: far enough from both ends of float32 that no digit is lost


def exp_rows(scores: Array) -> tuple[Array, Array, Array | float]:
    """Return ``exp(scores - shift)``, its sums over the last axis, and the shift of each row.

    Parameters
    ----------
    scores : ndarray, shape (..., S)
        May hold minus infinity.

    Returns
    -------
    p : ndarray, shape (..., S)
    total : ndarray, shape (...)
        Zero where all scores are minus infinity, and only there.
    shift : ndarray, shape (...), or 0.0
    """
    ones = np.ones(scores.shape[-1], scores.dtype)
    with np.errstate(over="ignore"):
        p = np.exp(scores)
    total = p @ ones
    if total.size == 0 or (total.min() > _SMALLEST and total.max() < _LARGEST):
        return p, total, 0.0
    shift = scores.max(axis=-1, initial=-np.inf)
    shift[~np.isfinite(shift)] = 0
    np.subtract(scores, shift[..., None], out=p)
    np.exp(p, out=p)
    return p, p @ ones, shift
