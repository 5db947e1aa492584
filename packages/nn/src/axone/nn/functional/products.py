"""Matrix products cut into the small ones that OpenBLAS multiplies fastest, and sums as products.

On processors with AVX-512, OpenBLAS multiplies two matrices where they lie as long as that takes at most a million
multiplications, and so reaches the processor's peak. Beyond, it first copies both into blocks, for every product anew:
that costs a tenth of the time. Here the product is cut into blocks of its own, all handed to BLAS by one call from
Python. They read their factors where these lie too; only a right factor that is transposed, or whose rows are long, is
copied into panels before, once for the whole product.

Only one thread computes small products. So they are used where someone shares out the cores, and says so by
`in_blocks`; elsewhere, and on other processors, a product is NumPy's.

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
from axone.nn.functional.sharing import is_alone, share_out, shares

_SMALL = 10**6  # multiplications
_HEIGHTS = (64, 32, 16, 8)  # of blocks
_WIDTH, _WIDTH_TRANSPOSED = 64, 32  # of blocks; the second if the left factor is transposed
_LEAST_TRANSPOSED = 32  # rows of a block: below, a transposed left factor is read too slowly
_FAR = 2048  # bytes between two rows: from here on panels of them fall on the same few lines of the cache
_REPAID = 192  # rows of the product: fewer do not repay a copy of the right factor
_COPIED = 3 << 20  # numbers: a larger right factor is not copied, for no cache would hold the copy
_SLAB = 16  # columns copied at once: more of those far apart drive each other out of the cache


class _Askers:
    """How many ask for blocks at the moment."""

    lock = threading.Lock()
    number = 0

    @classmethod
    def change(cls, by: int) -> None:
        with cls.lock:
            cls.number += by


@contextlib.contextmanager
def in_blocks() -> Iterator[None]:
    """Cut products into blocks for a while: for callers that give each core a thread, and BLAS only one for each."""
    _Askers.change(1)
    try:
        yield
    finally:
        _Askers.change(-1)


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return ``a @ b``, computed by as many threads as there are to share it.

    Parameters
    ----------
    a : ndarray, shape (..., M, K)
    b : ndarray, shape (..., K, N)
        Of the dtype of `a`; the axes before the last two broadcast to those of `a`.
    out : ndarray, shape (..., M, N), optional
        Where to write it; it must not overlap `a` or `b`.

    Returns
    -------
    ndarray, shape (..., M, N)
    """
    if out is None:
        out = empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    if is_alone() or a.ndim > 2:
        _multiply(a, b, out)
    else:
        _share_out(a, b, out)
    return out


def _share_out(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices, each thread some rows or columns of it."""
    (M, K), N = a.shape, b.shape[1]
    if M > N:
        share_out(lambda rows: _multiply(a[rows], b, out[rows]), shares(M, of=_WIDTH, work=K * N))
    else:
        parts = shares(N, of=_WIDTH, work=M * K)
        share_out(lambda columns: _multiply(a, b[:, columns], out[:, columns]), parts)


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write ``a @ b``, in blocks if that is quicker."""
    cut = _cut(a.shape, a.strides, b.shape, b.strides, a.itemsize) if _Askers.number else None
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
        The shapes of the factors, which are all that matters, with how they lie.
    a_strides, b_strides : tuple of int
        In bytes.
    item : int
        Bytes of a number.
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
    """Return a matrix as panels of n columns: (N / n, K, n)."""
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
    """Return a vector of ones, shape (size,), not to be written to: its product with a matrix sums rows or columns."""
    vector = np.ones(size, dtype)
    vector.flags.writeable = False
    return vector


@functools.cache
def _small_is_fast() -> bool:
    """Tell whether NumPy computes with OpenBLAS on a processor with AVX-512."""
    build: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # its stub forgets the mode
    blas = build.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    found = build.get("SIMD Extensions", {}).get("found", [])
    return "openblas" in blas and not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)
