"""Looking up rows of a table, and adding their gradients back.

A row that occurs many times gets the sum of its gradients. ``numpy.add.at`` would add one row at a time; here the rows
are sorted by id and added in pairs, which takes as many rounds as the logarithm of the most frequent id's count.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, Deferred, Gradient, empty, record


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

    def vjp(g: Array) -> tuple[Gradient]:
        return (RowSums(ids.reshape(-1).astype(np.intp, copy=False), g.reshape(-1, C)),)

    rows = empty((*ids.shape, C), weight.dtype)
    weight.data.take(ids.astype(np.intp, copy=False), axis=0, out=rows, mode="clip")  # they are in range
    return record("embedding", rows, (weight,), vjp)


class RowSums(Deferred):
    """The gradient of a table: its row i is the sum of the gradients whose id is i.

    Parameters
    ----------
    ids : ndarray of intp, shape (N,)
    values : ndarray, shape (N, C)
    """

    __slots__ = ("ids", "values")

    def __init__(self, ids: NDArray[np.intp], values: Array) -> None:
        self.ids = ids
        self.values = values

    def write(self, out: Array) -> None:
        """Set each row of the table to its sum, and to zero where there is none."""
        out.fill(0)
        ids, sums = self._sums()
        out[ids] = sums

    def add(self, out: Array) -> None:
        """Add to the rows that were looked up, and to no other."""
        ids, sums = self._sums()
        out[ids] += sums

    def _sums(self) -> tuple[NDArray[np.intp], Array]:
        """Return each id once, and the sum of its rows: neighbours of one id are added until none are left."""
        if _increasing(self.ids):
            return self.ids, self.values
        order = np.argsort(self.ids, kind="stable")
        ids, rows = self.ids[order], self.values[order]  # (N,), (N, C)
        place = np.arange(len(ids))  # where the rows are that are left
        while True:
            number = np.arange(len(ids))
            first = np.concatenate(([True], ids[1:] != ids[:-1]))  # where a run of one id begins
            second = (number - np.maximum.accumulate(number * first)) % 2 == 1
            if not second.any():
                return ids, rows[place]
            rows[place[:-1][second[1:]]] += rows[place[second]]
            ids, place = ids[~second], place[~second]


def _increasing(ids: NDArray[np.intp]) -> bool:
    """Return whether every id is larger than the one before, as positions are."""
    return bool((ids[1:] > ids[:-1]).all())
