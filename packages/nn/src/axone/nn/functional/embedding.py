"""Embedding lookup: gathers rows of a table, and scatters their gradients back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, Gradient, Rows, empty, record


def embedding(ids: NDArray[np.integer[Any]], weight: Tensor) -> Tensor:
    """Return the row of `weight` for each id.

    Parameters
    ----------
    ids : ndarray of int, shape (...)
        Each in ``[0, num_embeddings)``.
    weight : Tensor, shape (num_embeddings, C)

    Returns
    -------
    Tensor, shape (..., C)

    Raises
    ------
    TypeError
        If the ids are not integers.
    IndexError
        If an id is outside the table.
    """
    ids = np.asarray(ids)
    count, C = weight.shape
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        raise IndexError(f"ids must be from 0 to {count - 1}, got {ids.min()} to {ids.max()}")

    def vjp(g: Array) -> tuple[Gradient]:
        return (Rows(ids.reshape(-1).astype(np.intp, copy=False), g.reshape(-1, C)),)

    rows = empty((*ids.shape, C), weight.dtype)
    weight.data.take(ids.astype(np.intp, copy=False), axis=0, out=rows, mode="clip")  # checked above
    return record("embedding", rows, (weight,), vjp)
