"""Elementwise functions: exponentials, logarithms, roots, trigonometric functions and activations.

Each `vjp` works in place on arrays that it allocated, with operators instead of ``out=``, because NumPy returns numbers
in place of 0-d arrays.
"""

from __future__ import annotations

import numpy as np

from axone.autograd.arrays import Array, mask_gradient
from axone.autograd.ops.dtypes import values
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor


def exp(x: Operand) -> Tensor:
    """Return e to the power of each element.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.exp([0.0, -1000.0])
    Tensor([1., 0.])
    """
    result = np.exp(values(x))
    return record("exp", result, (x,), lambda g: (g * result,))


def log(x: Operand) -> Tensor:
    """Return the natural logarithm of each element.

    Parameters
    ----------
    x : Tensor or array_like
        Positive numbers.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> x = ag.Tensor([2.0, 4.0], requires_grad=True)
    >>> ag.log(x).sum().backward()
    >>> x.grad
    array([0.5 , 0.25], dtype=float32)
    """
    data = values(x)
    return record("log", np.log(data), (x,), lambda g: (g / data,))


def log1p(x: Operand) -> Tensor:
    """Return the natural logarithm of one plus each element, accurate also for tiny elements.

    Parameters
    ----------
    x : Tensor or array_like
        Numbers above -1.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.log1p([0.0, 1e-8])
    Tensor([0.e+00, 1.e-08])
    """
    data = values(x)
    return record("log1p", np.log1p(data), (x,), lambda g: (g / (1 + data),))


def sqrt(x: Operand) -> Tensor:
    """Return the square root of each element.

    Parameters
    ----------
    x : Tensor or array_like
        Numbers that are not negative. The derivative at zero is infinite.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.sqrt([4.0, 9.0])
    Tensor([2., 3.])
    """
    result = np.sqrt(values(x))

    def vjp(g: Array) -> tuple[Array]:
        dx = g / result
        dx *= 0.5
        return (dx,)

    return record("sqrt", result, (x,), vjp)


def abs(x: Operand) -> Tensor:
    """Return the absolute value of each element; its derivative at zero is defined as zero.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.abs([-1.0, 2.0])
    Tensor([1., 2.])
    """
    data = values(x)
    return record("abs", np.abs(data), (x,), lambda g: (g * np.sign(data),))


def sin(x: Operand) -> Tensor:
    """Return the sine of each element.

    Parameters
    ----------
    x : Tensor or array_like
        In radians.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.sin([0.0])
    Tensor([0.])
    """
    data = values(x)
    return record("sin", np.sin(data), (x,), lambda g: (g * np.cos(data),))


def cos(x: Operand) -> Tensor:
    """Return the cosine of each element.

    Parameters
    ----------
    x : Tensor or array_like
        In radians.

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.cos([0.0])
    Tensor([1.])
    """
    data = values(x)
    return record("cos", np.cos(data), (x,), lambda g: (-g * np.sin(data),))


def tanh(x: Operand) -> Tensor:
    """Return the hyperbolic tangent of each element, a sigmoid curve from -1 to 1.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.tanh([-100.0, 0.0, 100.0])
    Tensor([-1.,  0.,  1.])
    """
    result = np.tanh(values(x))

    def vjp(g: Array) -> tuple[Array]:
        part = g * result
        part *= result
        return (g - part,)  # g (1 - tanh^2)

    return record("tanh", result, (x,), vjp)


def sigmoid(x: Operand) -> Tensor:
    """Return the logistic sigmoid ``1 / (1 + exp(-x))`` of each element, accurate at both ends.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.sigmoid([-1000.0, 0.0, 1000.0])
    Tensor([0. , 0.5, 1. ])
    """
    data = values(x)
    e = np.exp(-np.abs(data))  # at most 1, so it cannot overflow
    near = 1 / (1 + e)
    far = e * near  # near + far = 1, and both are accurate

    def vjp(g: Array) -> tuple[Array]:
        dx = near * far
        dx *= g
        return (dx,)

    return record("sigmoid", np.where(data >= 0, near, far), (x,), vjp)


def relu(x: Operand) -> Tensor:
    """Return the rectified linear unit of each element: the larger of the element and zero.

    Parameters
    ----------
    x : Tensor or array_like

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.relu([-1.0, 2.0])
    Tensor([0., 2.])
    """
    result = np.maximum(values(x), 0)
    return record("relu", result, (x,), lambda g: (mask_gradient(g, result != 0),))  # passes at NaN, as in PyTorch


def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Tensor:
    """Return positive elements unchanged and multiply the others by `negative_slope`.

    Parameters
    ----------
    x : Tensor or array_like
    negative_slope : float, default 0.01

    Returns
    -------
    Tensor, shape of `x`

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.leaky_relu([-1.0, 2.0])
    Tensor([-0.01,  2.  ])
    """
    data = values(x)
    slope = np.where(data > 0, data.dtype.type(1), data.dtype.type(negative_slope))
    return record("leaky_relu", data * slope, (x,), lambda g: (g * slope,))
