"""Gradients that are not computed yet: a `vjp` may return a recipe for an array instead of the array.

The engine owns no array that a `vjp` returns, for it may be shared; so it has to copy the gradient of a weight, or to
add it to what is already there, and a large matrix is written twice. A recipe is told where its result belongs: the
product of activations and gradients then goes straight into the weight's own gradient, which may be a part of one
flat buffer. And a recipe for few elements of a large array adds just these.
"""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array
from axone.autograd.memory import empty_like


class Deferred:
    """A gradient that knows how to write itself. It has the shape of the input it belongs to, not a broadcast one.

    A class derives from it and defines `write`. (It is no `abc.ABC`, whose `isinstance` costs more than a small
    gradient does.)

    Carried out once, in the order of the walk, before the next `vjp` runs: it may hold the arrays that the `vjp` was
    given or allocated.
    """

    __slots__ = ()

    def write(self, out: Array) -> None:
        """Overwrite an array, whatever it holds, with the gradient.

        Parameters
        ----------
        out : ndarray, shape of the input
        """
        raise NotImplementedError(f"{type(self).__name__} must define write(out)")

    def add(self, out: Array) -> None:
        """Add the gradient to an array.

        Parameters
        ----------
        out : ndarray, shape of the input
        """
        part = empty_like(out)
        self.write(part)
        out += part


class Product(Deferred):
    """The matrix product of two arrays.

    Parameters
    ----------
    left : ndarray, shape (..., n, k)
    right : ndarray, shape (..., k, m)

    Examples
    --------
    The gradient of a weight in ``x @ w``:

    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.extend import Product, record
    >>> def project(x, w):
    ...     return record("project", x.data @ w.data, (x, w), lambda g: (g @ w.data.T, Product(x.data.T, g)))
    >>> w = Tensor(np.ones((2, 3)), requires_grad=True)
    >>> project(Tensor(np.ones((4, 2))), w).sum().backward()
    >>> w.grad
    array([[4., 4., 4.],
           [4., 4., 4.]])
    """

    __slots__ = ("left", "right")

    def __init__(self, left: Array, right: Array) -> None:
        self.left = left
        self.right = right

    def write(self, out: Array) -> None:
        """Compute the product into `out`."""
        np.matmul(self.left, self.right, out=out)


class Part(Deferred):
    """A gradient that is zero outside of a part which a basic index picks, each element at most once.

    Parameters
    ----------
    index : int, slice, None, Ellipsis, or a tuple of these
        Where the part is. A boolean array will do as well.
    values : ndarray
        The gradient there, of the shape that the index picks.
    """

    __slots__ = ("index", "values")

    def __init__(self, index: Any, values: Array) -> None:
        self.index = index
        self.values = values

    def write(self, out: Array) -> None:
        """Set `out` to zero, and the part to its values."""
        out.fill(0)
        out[self.index] = self.values

    def add(self, out: Array) -> None:
        """Add to the part alone."""
        out[self.index] += self.values


_ONE_HOT = 1 << 23  # multiplications: up to here the one-hot product is quicker than the sort


class Rows(Deferred):
    """A gradient for rows that were looked up, each any number of times: the rows of one number are added up.

    ``numpy.add.at`` would do that one element at a time. For a short table the product with the one-hot matrix is far
    faster; for a long one the numbers are sorted, and neighbours of one number are added until none are left.

    Parameters
    ----------
    ids : ndarray of int, shape (N,)
        Which row of the input each gradient is for, from 0.
    values : ndarray, shape (N, ...)
        The gradients.
    """

    __slots__ = ("ids", "values")

    def __init__(self, ids: NDArray[np.integer[Any]], values: Array) -> None:
        self.ids = ids
        self.values = values

    def write(self, out: Array) -> None:
        """Set every row to its sum, zero where it was not looked up."""
        short = out.ndim == 2 and 0 < len(out) <= len(self.ids) and out.size * len(self.ids) <= _ONE_HOT
        if not (short and self._multiply(out)):
            out.fill(0)
            ids, sums = self._sums()
            out[ids] = sums

    def add(self, out: Array) -> None:
        """Add to the rows that were looked up, and to no other."""
        if len(out) <= len(self.ids):
            super().add(out)
        else:
            ids, sums = self._sums()
            out[ids] += sums

    @np.errstate(invalid="ignore", over="ignore")
    def _multiply(self, out: Array) -> bool:
        """Overwrite a table with the one-hot product; tell whether that is the gradient, as it is for finite values.

        Zero times an infinite value is not a number, in every row: so it is enough to look at one of them.
        """
        one_hot = np.zeros((len(out), len(self.ids)), self.values.dtype)  # (rows, N)
        one_hot[self.ids, np.arange(len(self.ids))] = 1
        np.matmul(one_hot, self.values, out=out)
        row = out[0]
        return isfinite(row.dot(row))

    def _sums(self) -> tuple[NDArray[np.integer[Any]], Array]:
        """Return each number once, and the sum of its rows."""
        if (self.ids[1:] > self.ids[:-1]).all():  # as positions are
            return self.ids, self.values
        order = np.argsort(self.ids, kind="stable")
        ids, rows = self.ids[order], self.values[order]  # (N,), (N, ...)
        place = np.arange(len(ids))  # where the rows are that are left
        while True:
            number = np.arange(len(ids))
            first = np.concatenate(([True], ids[1:] != ids[:-1]))  # where a run of one number begins
            second = (number - np.maximum.accumulate(number * first)) % 2 == 1
            if not second.any():
                return ids, rows[place]
            rows[place[:-1][second[1:]]] += rows[place[second]]
            ids, place = ids[~second], place[~second]


class Scattered(Deferred):
    """A gradient for single elements that were picked anywhere, each any number of times.

    Parameters
    ----------
    positions : ndarray of int
        Where each was picked, counted through the flattened input.
    values : ndarray, shape of `positions`
        The gradients.
    """

    __slots__ = ("positions", "values")

    def __init__(self, positions: NDArray[np.integer[Any]], values: Array) -> None:
        self.positions = positions
        self.values = values

    def write(self, out: Array) -> None:
        """Set every element to its sum, zero where it was not picked."""
        totals = np.bincount(self.positions.reshape(-1), self.values.reshape(-1), minlength=out.size)
        out[...] = totals.reshape(out.shape)
