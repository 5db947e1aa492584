"""Looking up rows of a table, and adding their gradients back.

A row that occurs many times gets the sum of its gradients. ``numpy.add.at`` would add one row at a time. For a small
table a product with the one-hot matrix is quickest; for a large one the rows are sorted by id and added in pairs,
which takes as many rounds as the logarithm of the most frequent id's count.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, record

_ONE_HOT_ROWS = 128  # up to here the product is quicker


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
    count, C = weight.shape
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding needs integer ids, and these are {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        raise IndexError(f"embedding needs ids from 0 to {count - 1}, and these go from {ids.min()} to {ids.max()}")

    def vjp(g: Array) -> tuple[Array]:
        return (sum_by_id(ids.reshape(-1).astype(np.intp, copy=False), g.reshape(-1, C), count),)

    return record("embedding", weight.data[ids], (weight,), vjp)


def sum_by_id(ids: NDArray[np.intp], rows: Array, count: int) -> Array:
    """Return the table in which row i is the sum of the rows whose id is i.

    Parameters
    ----------
    ids : ndarray of intp, shape (N,)
    rows : ndarray, shape (N, C)
    count : int
        V, the length of the table.

    Returns
    -------
    ndarray, shape (V, C)
    """
    if count <= _ONE_HOT_ROWS and not _increasing(ids):
        one_hot = np.zeros((len(ids), count), rows.dtype)  # (N, V)
        one_hot[np.arange(len(ids)), ids] = 1
        return one_hot.T @ rows
    table = np.zeros((count, rows.shape[1]), rows.dtype)  # (V, C)
    if not _increasing(ids):
        ids, rows = _add_pairs(ids, rows)
    table[ids] = rows
    return table


def _increasing(ids: NDArray[np.intp]) -> bool:
    """Return whether every id is larger than the one before, as positions are."""
    return bool((ids[1:] > ids[:-1]).all())


def _add_pairs(ids: NDArray[np.intp], rows: Array) -> tuple[NDArray[np.intp], Array]:
    """Return each id once, and the sums of its rows: neighbours of one id are added until none are left."""
    order = np.argsort(ids, kind="stable")
    ids, rows = ids[order], rows[order]  # (N,), (N, C)
    place = np.arange(len(ids))  # where the rows are that are left
    while True:
        number = np.arange(len(ids))
        first = np.concatenate(([True], ids[1:] != ids[:-1]))  # where a run of one id begins
        second = (number - np.maximum.accumulate(number * first)) % 2 == 1
        if not second.any():
            return ids, rows[place]
        rows[place[:-1][second[1:]]] += rows[place[second]]
        ids, place = ids[~second], place[~second]
