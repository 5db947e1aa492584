"""Matrix products of two arrays, split over idle threads, and vectors of ones that sum rows and columns.

BLAS multiplies. A product that a thread computes alone is one call of it; where `use_threads` assigned threads to
the caller, each of them computes a part of the rows or columns.
"""

import functools
from typing import Any

import numpy as np

from axone.autograd.extend import Array, Product, empty
from axone.nn.functional.intra_op import chunks, is_single_threaded, parallel_for

_MULTIPLE = 16  # rows or columns: the parts of a product begin at multiples of a vector of AVX-512


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``, computed on the threads of `use_threads`.

    Parameters
    ----------
    a : ndarray, shape (..., M, K)
    b : ndarray, shape (..., K, N)
        Of the dtype of `a`; the axes before the last two broadcast to those of `a`.
    out : ndarray, shape (..., M, N), optional
        The array for the result; it must not overlap `a` or `b`.

    Returns
    -------
    ndarray, shape (..., M, N)
    """
    if out is None:
        out = empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    if is_single_threaded() or a.ndim > 2:
        np.matmul(a, b, out=out)
    else:
        _parallel_matmul(a, b, out)
    return out


def _parallel_matmul(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices, each thread a chunk of its rows or columns."""
    (M, K), N = a.shape, b.shape[1]
    if M > N:
        parts = chunks(M, multiple_of=_MULTIPLE, work=K * N)
        parallel_for(lambda rows: np.matmul(a[rows], b, out=out[rows]), parts)
    else:
        parts = chunks(N, multiple_of=_MULTIPLE, work=M * K)
        parallel_for(lambda columns: np.matmul(a, b[:, columns], out=out[:, columns]), parts)


class MatmulGradient(Product):
    """A gradient that is the product of two matrices, computed by `matmul`."""

    __slots__ = ()

    def write(self, out: Array) -> None:
        """Compute the product into `out`."""
        matmul(self.left, self.right, out)


@functools.lru_cache(maxsize=64)
def ones(size: int, dtype: np.dtype[Any]) -> Array:
    """Return a read-only vector of ones: its product with a matrix sums rows or columns."""
    vector = np.ones(size, dtype)
    vector.flags.writeable = False
    return vector
