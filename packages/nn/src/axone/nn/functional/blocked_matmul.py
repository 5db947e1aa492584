"""Blocked matrix products: cut into the small products that OpenBLAS multiplies fastest.

On processors with AVX-512, OpenBLAS multiplies two matrices in place as long as that takes at most a million
multiplications, and reaches the processor's peak. For a larger product it first packs both factors into blocks, for each
product again, which costs a tenth of the time. This module cuts a product into blocks itself and passes all of them to
BLAS in one call from Python. The blocks are read in place too; only a right factor that is transposed, or whose rows are
long, is first copied into panels, once for the whole product.

OpenBLAS computes a small product in one thread. So blocks are used only inside `blocked_matmul`, by callers that run one
thread per core; elsewhere, and on other processors, `matmul` is NumPy's. Sums of rows and columns are products with
`ones`.

References
----------
.. [1] K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", https://doi.org/10.1145/1356052.1356053
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from axone.autograd.extend import Array, Product, empty
from axone.nn.functional.intra_op import chunks, is_single_threaded, parallel_for

_SMALL = 10**6  # multiplications
_HEIGHTS = (64, 32, 16, 8)  # of blocks
_WIDTH, _WIDTH_TRANSPOSED = 64, 32  # of blocks; the second if the left factor is transposed
_LEAST_TRANSPOSED = 32  # rows of a block: with fewer, a transposed left factor is read too slowly
_FAR = 2048  # bytes between two rows: from this distance on, panels of them map to the same few cache sets
_REPAID = 192  # rows of the product: with fewer, copying the right factor costs more than it saves
_COPIED = 3 << 20  # numbers: a larger right factor is not copied, because no cache would hold the copy
_SLAB = 16  # columns copied at once: more columns that are far apart evict each other from the cache


class _Counter:
    """The number of threads that are inside `blocked_matmul`."""

    lock = threading.Lock()
    number = 0

    @classmethod
    def add(cls, change: int) -> None:
        with cls.lock:
            cls.number += change


@contextlib.contextmanager
def blocked_matmul() -> Iterator[None]:
    """Cut products into blocks, in all threads, until the context ends: for callers that run one BLAS thread per core."""
    _Counter.add(1)
    try:
        yield
    finally:
        _Counter.add(-1)


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
        _multiply(a, b, out)
    else:
        _parallel_matmul(a, b, out)
    return out


def _parallel_matmul(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices, each thread a chunk of its rows or columns."""
    (M, K), N = a.shape, b.shape[1]
    if M > N:
        parallel_for(lambda rows: _multiply(a[rows], b, out[rows]), chunks(M, multiple_of=_WIDTH, work=K * N))
    else:
        parts = chunks(N, multiple_of=_WIDTH, work=M * K)
        parallel_for(lambda columns: _multiply(a, b[:, columns], out[:, columns]), parts)


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write ``a @ b``, in blocks if that is faster."""
    cut = _cut(a.shape, a.strides, b.shape, b.strides, a.itemsize) if _Counter.number else None
    if cut is None:
        np.matmul(a, b, out=out)
        return
    m, n, copied = cut
    (*batch, M, K), N = a.shape, b.shape[-1]
    whole = M // m * m
    left, result = (a, out) if whole == M else (a[..., :whole, :], out[..., :whole, :])
    left = left.reshape(*batch, whole // m, 1, m, K)
    result = result.reshape(*batch, whole // m, m, N // n, n).swapaxes(-2, -3)
    panels = _copied_panels(b, n) if copied else b.reshape(*b.shape[:-1], N // n, n).swapaxes(-2, -3)
    np.matmul(left, panels[..., None, :, :, :], out=result)
    if whole < M:
        np.matmul(a[..., whole:, :], b, out=out[..., whole:, :])


class BlockedProduct(Product):
    """A gradient that is the product of two matrices, computed by `matmul`."""

    __slots__ = ()

    def write(self, out: Array) -> None:
        """Compute the product into `out`."""
        matmul(self.left, self.right, out)


@functools.lru_cache(maxsize=256)
def _cut(
    a: tuple[int, ...], a_strides: tuple[int, ...], b: tuple[int, ...], b_strides: tuple[int, ...], item: int
) -> tuple[int, int, bool] | None:
    """Return height and width of the blocks of a product and whether to copy the right factor; None to leave it whole.

    Parameters
    ----------
    a, b : tuple of int
        The shapes of the factors.
    a_strides, b_strides : tuple of int
        Their strides in bytes.
    item : int
        The size of a number in bytes.
    """
    (M, K), N = a[-2:], b[-1]
    transposed_a, transposed_b = a_strides[-1] != item, b_strides[-1] != item
    n = _WIDTH_TRANSPOSED if transposed_a else _WIDTH
    if M * K * N <= _SMALL or N % n or (transposed_b and len(b) > 2) or not _small_is_fast():
        return None
    m = next((height for height in _HEIGHTS if height <= min(_SMALL // (n * K), M)), 0)
    far = len(b) == 2 and (transposed_b or b_strides[0] >= _FAR)
    copied = far and M >= _REPAID and K * N <= _COPIED
    if m < (_LEAST_TRANSPOSED if transposed_a else 1) or (transposed_b and not copied):
        return None
    return m, n, copied


def _copied_panels(b: Array, n: int) -> Array:
    """Copy a matrix into panels of n columns: (N / n, K, n)."""
    K, N = b.shape
    panels = empty((N // n, K, n), b.dtype)
    if b.strides[-1] == b.itemsize:
        panels[...] = b.reshape(K, N // n, n).swapaxes(0, 1)
        return panels
    columns = b.T.reshape(N // n, n, K).swapaxes(-1, -2)
    width = _SLAB if b.strides[-1] >= _FAR else n
    for first in range(0, n, width):
        slab = slice(first, first + width)
        panels[..., slab] = columns[..., slab]
    return panels


@functools.lru_cache(maxsize=64)
def ones(size: int, dtype: np.dtype[Any]) -> Array:
    """Return a read-only vector of ones: its product with a matrix sums rows or columns."""
    vector = np.ones(size, dtype)
    vector.flags.writeable = False
    return vector


@functools.cache
def _small_is_fast() -> bool:
    """Return whether NumPy computes with OpenBLAS on a processor with AVX-512."""
    build: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # its stub lacks the mode
    blas = build.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    found = build.get("SIMD Extensions", {}).get("found", [])
    return "openblas" in blas and not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)
