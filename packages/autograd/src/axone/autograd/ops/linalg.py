"""Linear algebra: matrix products, tensor contractions and norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Never

import numpy as np

from axone.autograd.arrays import SMALL, Array, Axis, mask_gradient
from axone.autograd.deferred import Product
from axone.autograd.ops.axes import add_reduce, axes_of, dropped
from axone.autograd.ops.dtypes import operands, values
from axone.autograd.ops.elementwise import abs
from axone.autograd.ops.reduce import max, sum
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tape import Gradient
from axone.autograd.tensor import Operand, Tensor, is_leaf, needs_grad


def matmul(a: Operand, b: Operand) -> Tensor:
    """Return the matrix product ``a @ b``, over leading axes that broadcast.

    Parameters
    ----------
    a : Tensor or array_like, shape (..., n, k) or (k,)
    b : Tensor or array_like, shape (..., k, m) or (k,)
        Vectors are treated as in NumPy: as a row on the left, as a column on the right.

    Returns
    -------
    Tensor, shape (..., n, m)
        Without n or m if that operand is a vector.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
    Tensor([21., 43.])
    """
    x, y = operands("matmul", a, b)
    try:
        if x.ndim == 2 and y.ndim == 2:
            return (_small if x.size <= SMALL and y.size <= SMALL else _large)(a, b, x, y)
        if y.ndim == 2 and x.ndim > 2:
            return _rows_times_matrix(a, b, x, y)
        return _stacks(a, b, x, y)
    except ValueError:
        raise ValueError(f"matmul needs shapes (..., n, k) and (..., k, m), got {x.shape} and {y.shape}") from None


def _small(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of two small matrices: `dot` has a quarter of the overhead, and copies strided operands."""
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return g.dot(y.T) if needs_a else None, x.T.dot(g) if needs_b else None

    return record("matmul", x.dot(y), (a, b), vjp)


def _large(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of two matrices; the gradient of a leaf is deferred, so that it is computed in place."""
    needs_a, needs_b, weight_a, weight_b = needs_grad(a), needs_grad(b), is_leaf(a), is_leaf(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        dx: Gradient = None
        dy: Gradient = None
        if needs_a:
            dx = Product(g, y.T) if weight_a else g @ y.T
        if needs_b:
            dy = Product(x.T, g) if weight_b else x.T @ g
        return dx, dy

    return record("matmul", x @ y, (a, b), vjp)


def _rows_times_matrix(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product of all rows of a stack with one matrix, as in a linear layer."""
    count, height = math.prod(x.shape[:-1]), y.shape[1]
    rows = x.reshape(count, x.shape[-1])  # (N, k)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        g = g.reshape(count, height)  # (N, m)
        return (g @ y.T).reshape(x.shape) if needs_a else None, Product(rows.T, g) if needs_b else None

    return record("matmul", (rows @ y).reshape(*x.shape[:-1], height), (a, b), vjp)


def _stacks(a: Operand, b: Operand, x: Array, y: Array) -> Tensor:
    """Return the product in the general case: vectors, and stacks of matrices that broadcast."""
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Gradient, Gradient]:
        left = x[None, :] if x.ndim == 1 else x  # (..., n, k)
        right = y[:, None] if y.ndim == 1 else y  # (..., k, m)
        g = g[..., None] if y.ndim == 1 else g
        g = g[..., None, :] if x.ndim == 1 else g  # (..., n, m)
        dx = dy = None
        if needs_a:
            dx = g @ right.swapaxes(-1, -2)
            dx = dx[..., 0, :] if x.ndim == 1 else dx
        if needs_b:
            dy = left.swapaxes(-1, -2) @ g
            dy = dy[..., 0] if y.ndim == 1 else dy
        return dx, dy

    return record("matmul", np.matmul(x, y), (a, b), vjp)


def dot(a: Operand, b: Operand) -> Tensor:
    """Return the dot product, as `numpy.dot` defines it.

    Parameters
    ----------
    a, b : Tensor or array_like
        The last axis of `a` is contracted with the second-last of `b`, or with its only one. Numbers multiply.

    Returns
    -------
    Tensor
        With the other axes of `a`, then those of `b`. For stacks of matrices use `matmul`.

    Raises
    ------
    ValueError
        If the lengths of these axes differ.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.dot([1.0, 2.0], [3.0, 4.0])
    Tensor(11.)
    """
    x, y = operands("dot", a, b)
    if x.ndim == 0 or y.ndim == 0:
        return record("dot", x * y, (a, b), lambda g: (g * y, g * x))
    return _contract("dot", (a, b), (x, y), ([x.ndim - 1], [y.ndim - 2 if y.ndim > 1 else 0]))


def outer(a: Operand, b: Operand) -> Tensor:
    """Return the outer product of two vectors.

    Parameters
    ----------
    a, b : Tensor or array_like
        Arrays with more axes are flattened.

    Returns
    -------
    Tensor, shape (size of `a`, size of `b`)

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.outer([1.0, 2.0], [3.0, 4.0])
    Tensor([[3., 4.],
            [6., 8.]])
    """
    x, y = operands("outer", a, b)

    def vjp(g: Array) -> tuple[Array, Array]:
        return g.dot(y.reshape(-1)).reshape(x.shape), x.reshape(-1).dot(g).reshape(y.shape)

    return record("outer", np.outer(x, y), (a, b), vjp)


def tensordot(a: Operand, b: Operand, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2) -> Tensor:
    """Return the sum of products over pairs of axes.

    Parameters
    ----------
    a, b : Tensor or array_like
    axes : int or pair of int or of sequences of int, default 2
        The number of last axes of `a` and first axes of `b`, or the axes of `a` and of `b` that are contracted.

    Returns
    -------
    Tensor
        With the other axes of `a`, then those of `b`.

    Raises
    ------
    ValueError
        If the lengths of contracted axes differ.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.tensordot([[1.0, 2.0], [3.0, 4.0]], [10.0, 1.0], axes=1)
    Tensor([12., 34.])
    """
    x, y = operands("tensordot", a, b)
    if isinstance(axes, int):
        pairs: tuple[Any, Any] = (tuple(range(-axes, 0)), tuple(range(axes)))
    else:
        pairs = axes[0], axes[1]
    normalize = np.lib.array_utils.normalize_axis_tuple
    return _contract("tensordot", (a, b), (x, y), (normalize(pairs[0], x.ndim), normalize(pairs[1], y.ndim)))


def _contract(
    name: str, inputs: tuple[Operand, Operand], arrays: tuple[Array, Array], axes: tuple[Sequence[int], Sequence[int]]
) -> Tensor:
    """Return the sum of products over the axes of each array, which are counted from the first."""
    x, y = arrays
    over_x, over_y = list(axes[0]), list(axes[1])
    try:
        data = np.tensordot(x, y, (over_x, over_y))
    except ValueError:
        raise ValueError(
            f"{name} needs equal lengths of contracted axes, got axes {over_x} of shape {x.shape} and {over_y} of {y.shape}"
        ) from None
    free_x = [axis for axis in range(x.ndim) if axis not in over_x]
    free_y = [axis for axis in range(y.ndim) if axis not in over_y]

    def vjp(g: Array) -> tuple[Array, Array]:  # g has the free axes of x, then those of y
        split = len(free_x)
        dx = np.tensordot(g, y, (range(split, g.ndim), free_y))  # then the contracted axes, in the order of y
        dy = np.tensordot(x, g, (free_x, range(split)))  # the contracted axes in the order of x, then those of y
        axes_of_dx = [*free_x, *(over_x[over_y.index(axis)] for axis in sorted(over_y))]
        axes_of_dy = [*(over_y[over_x.index(axis)] for axis in sorted(over_x)), *free_y]
        return dx.transpose(np.argsort(axes_of_dx)), dy.transpose(np.argsort(axes_of_dy))

    return record(name, data, inputs, vjp)


def norm(
    x: Operand,
    ord: float | Literal["fro"] | None = None,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    **unknown: Never,
) -> Tensor:
    """Return the norm of vectors, or the Frobenius norm of matrices, as `numpy.linalg.norm` does.

    Parameters
    ----------
    x : Tensor or array_like
    ord : {None, 1, 2, inf, "fro"}, optional
        1 for the sum of absolute values, inf for the largest, otherwise the square root of the sum of squares.
        A pair of axes, or a matrix without `axis`, takes None and "fro" only.
    axis : int or pair of int, optional
        The axis of the vectors, or the axes of the matrices; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `ord` is another number, or does not fit the axes.

    Notes
    -----
    The gradient at zero is defined as zero.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.norm([3.0, -4.0]), ag.norm([3.0, -4.0], ord=1)
    (Tensor(5.), Tensor(7.))
    """
    if unknown:
        raise unknown_argument("norm", unknown)
    data = values(x)
    count = len(axes_of(axis, data.ndim))
    if ord is not None and ord not in ({1, 2, math.inf} if count == 1 else {"fro"} if count == 2 else ()):
        fitting = "None, 1, 2 or inf" if count == 1 else "None or 'fro'" if count == 2 else "None"
        raise ValueError(f"ord ({ord!r}) of norm over {count} axes must be {fitting}")
    if ord == 1:
        return sum(abs(x), axis, keepdims=keepdims)
    if ord == math.inf:
        return max(abs(x), axis, keepdims=keepdims)
    length = np.sqrt(np.asarray(add_reduce(data * data, axis, None, None, True)))

    def vjp(g: Array) -> tuple[Array]:
        nonzero = length != 0
        scale = mask_gradient(g.reshape(length.shape) / np.where(nonzero, length, 1), nonzero)
        return (data * scale,)

    return record("norm", length if keepdims else dropped(length, axis), (x,), vjp)
