"""Deferred gradients: a `vjp` may return an object that computes a gradient into an array that the engine chooses.

The engine must not keep an array that a `vjp` returns, because the `vjp` may return it twice. It would copy the gradient
of a weight, or add it to the sum, and so write a large matrix twice. A deferred gradient receives the array to write to:
the product of activations and gradients then goes directly into the weight's gradient, which may be a view of one flat
buffer. A deferred gradient for a few elements of a large array adds only these.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array
from axone.autograd.memory import empty_like


class Deferred:
    """Base class of deferred gradients; each has the shape of its input, not a broadcast one.

    A subclass defines `write`. (This is not an `abc.ABC`, whose `isinstance` takes longer than a small gradient.)

    The engine computes it once, in the order of the backward pass, before it calls the next `vjp`. So it may hold the
    arrays that the `vjp` was given or allocated.
    """

    __slots__ = ()

    def write(self, out: Array) -> None:
        """Overwrite an array with the gradient.

        Parameters
        ----------
        out : ndarray, shape of the input
            Its old content is undefined.
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
    ...     return record(
    ...         "project",
    ...         x.data @ w.data,
    ...         (x, w),
    ...         lambda g: (g @ w.data.T, Product(x.data.T, g)),
    ...     )
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
    """A gradient that is zero outside of a part that a basic index selects.

    Parameters
    ----------
    index : int, slice, None, Ellipsis, or a tuple of these
        Selects the part. A boolean array works as well: it also selects each element at most once.
    values : ndarray
        The gradient of the part, of the shape that the index selects.
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
        """Add the values to the part."""
        out[self.index] += self.values


_ONE_HOT = 1 << 23  # multiplications: up to here the one-hot product is faster than the sort


class Rows(Deferred):
    """A gradient for rows that were looked up any number of times: gradients for the same row are added.

    ``numpy.add.at`` would add one element at a time. For a short table the product with the one-hot matrix is far
    faster; for a long one the ids are sorted, and neighbours of one id are added until none are left.

    Parameters
    ----------
    ids : ndarray of int, shape (N,)
        The row of the input to which each gradient belongs, from 0.
    values : ndarray, shape (N, ...)
        The gradients.
    """

    __slots__ = ("ids", "values")

    def __init__(self, ids: NDArray[np.integer[Any]], values: Array) -> None:
        self.ids = ids
        self.values = values

    def write(self, out: Array) -> None:
        """Set every row to its sum; to zero if it was not looked up."""
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
        """Overwrite a table with the one-hot product; return whether it is the gradient, as it is for finite values.

        Zero times infinity is NaN, and one infinite value makes every row NaN: one row shows whether there was any.
        """
        one_hot = np.zeros((len(out), len(self.ids)), self.values.dtype)  # (rows, N)
        one_hot[self.ids, np.arange(len(self.ids))] = 1
        np.matmul(one_hot, self.values, out=out)
        row = out[0]
        return isfinite(row.dot(row))

    def _sums(self) -> tuple[NDArray[np.integer[Any]], Array]:
        """Return each id once, and the sum of its rows."""
        if (self.ids[1:] > self.ids[:-1]).all():  # sorted and unique, as positions are
            return self.ids, self.values
        order = np.argsort(self.ids, kind="stable")
        ids, rows = self.ids[order], self.values[order]  # (N,), (N, ...)
        left = np.arange(len(ids))  # indices of the rows that remain
        while True:
            number = np.arange(len(ids))
            first = np.concatenate(([True], ids[1:] != ids[:-1]))  # begins a run of one id
            second = (number - np.maximum.accumulate(number * first)) % 2 == 1
            if not second.any():
                return ids, rows[left]
            rows[left[:-1][second[1:]]] += rows[left[second]]
            ids, left = ids[~second], left[~second]


class Scattered(Deferred):
    """A gradient for single elements that were selected at any positions, each any number of times.

    Parameters
    ----------
    positions : ndarray of int
        The position of each in the flattened input.
    values : ndarray, shape of `positions`
        The gradients.
    """

    __slots__ = ("positions", "values")

    def __init__(self, positions: NDArray[np.integer[Any]], values: Array) -> None:
        self.positions = positions
        self.values = values

    def write(self, out: Array) -> None:
        """Set every element to its sum; to zero if it was not selected."""
        totals = np.bincount(self.positions.reshape(-1), self.values.reshape(-1), minlength=out.size)
        out[...] = totals.reshape(out.shape)
