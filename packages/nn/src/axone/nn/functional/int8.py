"""Int8 weights: a matrix at a quarter of the memory, of which each row is int8 numbers times one float32 scale.

A product turns a block of rows into float32, which stays in the processor's cache, and multiplies that: memory is read for
one byte per weight instead of four, and the arithmetic is that of float32.

References
----------
.. [1] T. Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale" (a scale for each row),
   https://arxiv.org/abs/2208.07339
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array

_LARGEST = 127
_BLOCK = 110_592  # weights: 192 rows of 576, 432 KiB of float32
_ROWS = 1024  # that are quantized at once, so that no second copy of the matrix exists


class Int8Weight:
    """Matrix of which row i is ``numbers[i] * scales[i]``.

    Parameters
    ----------
    numbers : ndarray of int8, shape (R, C)
    scales : ndarray of float32, shape (R,)

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn.extend import Int8Weight
    >>> weight = Int8Weight.quantized(np.array([[0.5, -1.0], [3.0, 1.5]], np.float32))
    >>> weight.numbers.tolist()
    [[64, -127], [127, 64]]
    >>> weight.dense().round(2).tolist()
    [[0.5, -1.0], [3.0, 1.5099999904632568]]
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)  # of the products

    def __init__(self, numbers: NDArray[np.int8], scales: Array) -> None:
        self.numbers = numbers
        self.scales = scales

    @classmethod
    def quantized(cls, weight: Array, out: NDArray[np.int8] | None = None) -> Int8Weight:
        """Return the closest int8 weight whose scales make the largest number of each row 127.

        Parameters
        ----------
        weight : ndarray, shape (R, C)
        out : ndarray of int8, shape (R, C), optional
            The array for the numbers.
        """
        numbers = np.empty(weight.shape, np.int8) if out is None else out
        scales = np.empty(len(weight), np.float32)
        for start in range(0, len(weight), _ROWS):
            rows = slice(start, start + _ROWS)
            part = weight[rows]
            largest = np.maximum(part.max(1), -part.min(1))
            scales[rows] = np.where(largest > 0, largest, 1) / _LARGEST
            numbers[rows] = np.rint(part / scales[rows, None])
        return cls(numbers, scales)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self.numbers.shape[0], self.numbers.shape[1]

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.numbers.size

    @property
    def nbytes(self) -> int:
        """The bytes of numbers and scales."""
        return self.numbers.nbytes + self.scales.nbytes

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Int8Weight:
        return Int8Weight(self.numbers[rows], self.scales[rows])

    def take(self, ids: Any, axis: int = 0) -> Array:
        """Return some rows in float32, as `numpy.ndarray.take` does.

        Parameters
        ----------
        ids : int or array_like of int, shape (...)
        axis : int, default 0
            Only 0.
        """
        if axis:
            raise ValueError(f"axis ({axis}) must be 0: a row has one scale")
        rows: Array = self.numbers.take(ids, axis=0) * self.scales.take(ids)[..., None]
        return rows

    def scaled(self, factor: float) -> Int8Weight:
        """Return the matrix times a factor, with the same numbers."""
        return Int8Weight(self.numbers, self.scales * np.float32(factor))

    def dense(self) -> Array:
        """Return the whole matrix in float32."""
        return self.numbers * self.scales[:, None]

    def expand(self, out: Array) -> Array:
        """Write the numbers, without scales, into the first rows of an array of float32, and return these rows."""
        # A cast waits for memory. The maximum, which reads a cache line at a time, brings the numbers into the cache: a token
        # of SmolLM2 takes 32 ms instead of 36.
        np.maximum.reduce(self.numbers, axis=None)
        rows = out[: len(self)]
        np.copyto(rows, self.numbers)
        return rows

    def product(self, bias: Array | None = None) -> Callable[[Array], Array]:
        """Return the function that computes ``x W^T + b`` of rows (N, C), or of one vector (C,)."""
        height = int8_block_rows(self.shape[1])
        blocks = [(slice(start, start + height), self[start : start + height]) for start in range(0, len(self), height)]
        width = self.shape[1]

        def forward(x: Array) -> Array:
            y = np.empty((*x.shape[:-1], len(self)), x.dtype)
            numbers = np.empty((height, width), np.float32)  # for each call: several threads may call it
            for rows, part in blocks:
                np.multiply(x.dot(part.expand(numbers).T), part.scales, out=y[..., rows])
            if bias is not None:
                y += bias
            return y

        return forward


def int8_block_rows(width: int) -> int:
    """Return the rows of a weight that are turned into float32 at once."""
    return max(_BLOCK // width, 1)
