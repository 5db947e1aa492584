"""The arrays under a Tensor: their types, and summing a gradient back over broadcast axes.

The floor of the package: it knows NumPy and nothing of Axone.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
"""An array of floating-point numbers of any width, as `Tensor.data` and every gradient are."""

Shape: TypeAlias = tuple[int, ...]
Axis: TypeAlias = int | Sequence[int] | None

DEFAULT_DTYPE = np.dtype(np.float32)


def to_array(data: ArrayLike, dtype: np.typing.DTypeLike | None = None) -> NDArray[Any]:
    """Return `data` as an array: arrays keep their dtype, Python numbers and lists become float32.

    Parameters
    ----------
    data : array_like
        What to convert. An array is returned as it is, without a copy, if its dtype already fits.
    dtype : dtype, optional
        The dtype to convert to, instead of the one above.

    Returns
    -------
    ndarray
    """
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)):
        dtype = DEFAULT_DTYPE
    return np.asarray(data, dtype=dtype)


def unbroadcast(gradient: Array, shape: Shape) -> Array:
    """Sum a gradient over the axes that broadcasting added or stretched, back to the input's shape.

    Parameters
    ----------
    gradient : ndarray
        Of the broadcast shape.
    shape : tuple of int
        The shape that the input had before.

    Returns
    -------
    ndarray, shape `shape`
    """
    added = gradient.ndim - len(shape)
    if added:
        gradient = np.asarray(gradient.sum(axis=tuple(range(added))))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    if stretched:
        gradient = np.asarray(gradient.sum(axis=stretched, keepdims=True))
    return gradient
