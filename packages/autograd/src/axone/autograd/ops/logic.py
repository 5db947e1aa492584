"""Logic functions, which have no gradient: they return booleans and counts, plain arrays instead of Tensors.

Each does with the data of a Tensor what NumPy's function of the same name does.
"""

from __future__ import annotations

from typing import Never, overload

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Axis
from axone.autograd.ops.dtypes import operands, values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.tensor import Operand

__all__ = [
    "all",
    "allclose",
    "any",
    "array_equal",
    "count_nonzero",
    "isfinite",
    "isinf",
    "isnan",
]


@overload
def all(x: Operand, axis: None = None, *, keepdims: bool = False) -> np.bool_: ...
@overload
def all(x: Operand, axis: int | tuple[int, ...], *, keepdims: bool = False) -> NDArray[np.bool_]: ...
def all(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> NDArray[np.bool_] | np.bool_:
    """Return whether all elements over axes are nonzero.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to reduce; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    bool or ndarray of bool

    Examples
    --------
    >>> import axone.autograd as ag
    >>> bool(ag.all(ag.Tensor([1.0, 2.0]) > 0))
    True
    """
    if unknown:
        raise unknown_argument("all", unknown)
    found: NDArray[np.bool_] | np.bool_ = np.all(values(x), axis, keepdims=keepdims)
    return found


@overload
def any(x: Operand, axis: None = None, *, keepdims: bool = False) -> np.bool_: ...
@overload
def any(x: Operand, axis: int | tuple[int, ...], *, keepdims: bool = False) -> NDArray[np.bool_]: ...
def any(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> NDArray[np.bool_] | np.bool_:
    """Return whether any element over axes is nonzero.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to reduce; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    bool or ndarray of bool

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.any([[0.0, 1.0], [0.0, 0.0]], axis=1)
    array([ True, False])
    """
    if unknown:
        raise unknown_argument("any", unknown)
    found: NDArray[np.bool_] | np.bool_ = np.any(values(x), axis, keepdims=keepdims)
    return found


@overload
def count_nonzero(x: Operand, axis: None = None, *, keepdims: bool = False) -> int: ...
@overload
def count_nonzero(x: Operand, axis: int | tuple[int, ...], *, keepdims: bool = False) -> NDArray[np.intp]: ...
def count_nonzero(x: Operand, axis: Axis = None, *, keepdims: bool = False, **unknown: Never) -> NDArray[np.intp] | int:
    """Return the number of nonzero elements over axes.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or tuple of int, optional
        The axes to reduce; all by default.
    keepdims : bool, default False
        Whether to keep the reduced axes with length one.

    Returns
    -------
    int or ndarray of int

    Examples
    --------
    >>> import axone.autograd as ag
    >>> int(ag.count_nonzero([0.0, 1.0, 2.0]))
    2
    """
    if unknown:
        raise unknown_argument("count_nonzero", unknown)
    count: NDArray[np.intp] | int = np.count_nonzero(values(x), axis, keepdims=keepdims)
    return count


def allclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Return whether all elements are equal within a tolerance.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.
    rtol, atol : float, default 1e-5 and 1e-8
        The tolerance is ``atol + rtol * abs(b)``.
    equal_nan : bool, default False
        Whether NaN equals NaN.

    Returns
    -------
    bool

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.allclose([1.0, 2.0], [1.0, 2.000001])
    True
    """
    x, y = operands("allclose", a, b)
    return bool(np.allclose(x, y, rtol, atol, equal_nan))


def array_equal(a1: Operand, a2: Operand, equal_nan: bool = False) -> bool:
    """Return whether two arrays have the same shape and elements.

    Parameters
    ----------
    a1, a2 : Tensor or array_like
    equal_nan : bool, default False
        Whether NaN equals NaN.

    Returns
    -------
    bool

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.array_equal([1.0, 2.0], [1.0, 2.0])
    True
    """
    return bool(np.array_equal(values(a1), values(a2), equal_nan))


def isfinite(x: Operand) -> NDArray[np.bool_]:
    """Return whether each element is neither infinite nor NaN.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray of bool, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.isfinite([1.0, float("inf")])
    array([ True, False])
    """
    return np.asarray(np.isfinite(values(x)))


def isinf(x: Operand) -> NDArray[np.bool_]:
    """Return whether each element is infinite.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray of bool, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.isinf([1.0, float("inf")])
    array([False,  True])
    """
    return np.asarray(np.isinf(values(x)))


def isnan(x: Operand) -> NDArray[np.bool_]:
    """Return whether each element is NaN.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    ndarray of bool, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.isnan([1.0, float("nan")])
    array([False,  True])
    """
    return np.asarray(np.isnan(values(x)))
