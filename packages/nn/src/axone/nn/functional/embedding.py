"""Looking up rows of a table, and adding their gradients back.

A row that occurs many times gets the sum of its gradients. ``numpy.add.at`` would do that one element at a time: for a
small table a product with the one-hot matrix is far faster, for a large one sorting the ids and summing runs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, record

_ONE_HOT_ROWS = 512  # up to here the one-hot product is quicker than the sort


def embedding(ids: NDArray[np.integer[Any]], weight: Tensor) -> Tensor:
    """Return the rows of `weight` that `ids` names.

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
    count = weight.shape[0]
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding needs integer ids, and these are {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        raise IndexError(f"embedding needs ids from 0 to {count - 1}, and these go from {ids.min()} to {ids.max()}")

    def vjp(g: Array) -> tuple[Array]:
        return (_scatter(ids.reshape(-1), g.reshape(ids.size, -1), count),)

    return record("embedding", weight.data[ids], (weight,), vjp)


def _scatter(ids: NDArray[np.integer[Any]], rows: Array, count: int) -> Array:
    """Return the table of `count` rows in which row i is the sum of the rows whose id is i."""
    if count <= _ONE_HOT_ROWS:
        one_hot = np.zeros((len(ids), count), rows.dtype)  # (N, V)
        one_hot[np.arange(len(ids)), ids] = 1
        return one_hot.T @ rows
    table = np.zeros((count, rows.shape[1]), rows.dtype)  # (V, C)
    if len(ids):
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        table[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return table
