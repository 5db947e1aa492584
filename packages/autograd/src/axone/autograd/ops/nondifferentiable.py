"""Indices, rounding and shapes, which have no gradient: the functions return plain arrays and numbers.

Each does with the data of a Tensor what NumPy's function of the same name does.
"""

from __future__ import annotations

from typing import Any, Never, overload

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Shape
from axone.autograd.ops.dtypes import values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.tensor import Operand

__all__ = [
    "argmax",
    "argmin",
    "argsort",
    "ceil",
    "floor",
    "ndim",
    "round",
    "shape",
    "sign",
    "size",
]


@overload
def argmax(x: Operand, axis: None = None, *, keepdims: bool = False) -> np.intp: ...
@overload
def argmax(x: Operand, axis: int, *, keepdims: bool = False) -> NDArray[np.intp]: ...
def argmax(
    x: Operand, axis: int | None = None, *, keepdims: bool = False, **unknown: Never
) -> NDArray[np.intp] | np.intp:
    """Return the index of the largest element; of the first among equals.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, optional
        By default the index refers to the flattened elements.
    keepdims : bool, default False
        Whether to keep the reduced axis with length one.

    Returns
    -------
    int or ndarray of int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.argmax([[1.0, 5.0], [7.0, 3.0]], axis=-1)
    array([1, 0])
    """
    if unknown:
        raise unknown_argument("argmax", unknown)
    index: NDArray[np.intp] | np.intp = np.argmax(values(x), axis, keepdims=keepdims)
    return index


@overload
def argmin(x: Operand, axis: None = None, *, keepdims: bool = False) -> np.intp: ...
@overload
def argmin(x: Operand, axis: int, *, keepdims: bool = False) -> NDArray[np.intp]: ...
def argmin(
    x: Operand, axis: int | None = None, *, keepdims: bool = False, **unknown: Never
) -> NDArray[np.intp] | np.intp:
    """Return the index of the smallest element; of the first among equals.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, optional
        By default the index refers to the flattened elements.
    keepdims : bool, default False
        Whether to keep the reduced axis with length one.

    Returns
    -------
    int or ndarray of int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.argmin([[1.0, 5.0], [7.0, 3.0]], axis=-1)
    array([0, 1])
    """
    if unknown:
        raise unknown_argument("argmin", unknown)
    index: NDArray[np.intp] | np.intp = np.argmin(values(x), axis, keepdims=keepdims)
    return index


def argsort(x: Operand, axis: int | None = -1, *, stable: bool | None = None, **unknown: Never) -> NDArray[np.intp]:
    """Return the indices that sort the elements in ascending order.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or None, default -1
        None sorts the flattened elements.
    stable : bool, optional
        Whether equal elements keep their order.

    Returns
    -------
    ndarray of int, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.argsort([3.0, 1.0, 2.0])
    array([1, 2, 0])
    """
    if unknown:
        raise unknown_argument("argsort", unknown)
    return np.argsort(values(x), axis, stable=stable)


def ceil(x: Operand) -> NDArray[Any]:
    """Round each element up to a whole number.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.ceil([1.2, -1.2])
    array([ 2., -1.], dtype=float32)
    """
    return np.asarray(np.ceil(values(x)))


def floor(x: Operand) -> NDArray[Any]:
    """Round each element down to a whole number.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.floor([1.2, -1.2])
    array([ 1., -2.], dtype=float32)
    """
    return np.asarray(np.floor(values(x)))


def round(x: Operand, decimals: int = 0) -> NDArray[Any]:
    """Round each element to a number of decimals, halves to the even digit.

    Parameters
    ----------
    x : Tensor or array_like
    decimals : int, default 0
        Negative numbers round to tens, hundreds, ...

    Returns
    -------
    ndarray, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.round([1.26, 2.5], 1)
    array([1.3, 2.5], dtype=float32)
    """
    return np.asarray(np.round(values(x), decimals))


def sign(x: Operand) -> NDArray[Any]:
    """Return -1, 0 or 1 for each element, according to its sign.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.sign([-2.0, 0.0, 3.0])
    array([-1.,  0.,  1.], dtype=float32)
    """
    return np.asarray(np.sign(values(x)))


def ndim(x: Operand) -> int:
    """Return the number of axes.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.ndim([[1.0, 2.0]])
    2
    """
    return values(x).ndim


def shape(x: Operand) -> Shape:
    """Return the length of each axis.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.shape([[1.0, 2.0]])
    (1, 2)
    """
    return values(x).shape


def size(x: Operand, axis: int | None = None, **unknown: Never) -> int:
    """Return the number of elements, or the length of one axis.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int, optional

    Returns
    -------
    int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.size([[1.0, 2.0]])
    2
    """
    if unknown:
        raise unknown_argument("size", unknown)
    return values(x).size if axis is None else values(x).shape[axis]
