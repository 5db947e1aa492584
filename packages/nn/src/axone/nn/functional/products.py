"""Matrix products in the sizes that OpenBLAS multiplies fastest, and sums as products.

On processors with AVX-512, OpenBLAS multiplies matrices where they lie as long as one call makes at most a million
multiplications, and so reaches the processor's peak. Beyond, it copies them into blocks first, which costs a tenth of
the time for thick matrices and up to half of it for thin ones. So a tall left factor is cut into runs of rows, all in
one call from Python. Nowhere else is anything gained by that, and nothing is done.
"""

import functools
from typing import Any

import numpy as np

from axone.autograd.extend import Array, empty

_SMALL = 10**6  # multiplications
_FEWEST_ROWS = 8  # below, a call costs more than it gains


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``; fastest where neither is a transposed view.

    Parameters
    ----------
    a : ndarray, shape (..., M, K)
    b : ndarray, shape (..., K, N)
        The axes before the last two broadcast to those of `a`.
    out : ndarray, shape (..., M, N), optional
        Where to write it.

    Returns
    -------
    ndarray, shape (..., M, N)
    """
    M, K = a.shape[-2:]
    N = b.shape[-1]
    rows = _SMALL // max(K * N, 1) // 4 * 4
    if out is None:
        out = empty((*a.shape[:-1], N), a.dtype)
    if not _FEWEST_ROWS <= rows < M or not _small_is_fast():
        return np.matmul(a, b, out=out)
    rows = min(rows, 64)
    whole = M // rows * rows
    np.matmul(_runs(a[..., :whole, :], rows), b[..., None, :, :], out=_runs(out[..., :whole, :], rows))
    if whole < M:
        np.matmul(a[..., whole:, :], b, out=out[..., whole:, :])
    return out


@functools.lru_cache(maxsize=64)
def ones(size: int, dtype: np.dtype[Any]) -> Array:
    """Return a vector of ones, shape (size,), not to be written to: its product with a matrix sums rows or columns."""
    vector = np.ones(size, dtype)
    vector.flags.writeable = False
    return vector


def _runs(x: Array, rows: int) -> Array:
    """Return a view of shape (..., M / rows, rows, K)."""
    *batch, M, K = x.shape
    return x.reshape(*batch, M // rows, rows, K)


@functools.cache
def _small_is_fast() -> bool:
    """Tell whether NumPy computes with OpenBLAS on a processor with AVX-512."""
    build: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # its stub forgets the mode
    blas = build.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    found = build.get("SIMD Extensions", {}).get("found", [])
    return "openblas" in blas and not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)
