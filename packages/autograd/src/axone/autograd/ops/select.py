"""Operations that select elements: maximum, minimum, clip and where.

Where two elements are equal, `maximum` and `minimum` share the gradient equally between them.
"""

from __future__ import annotations

from typing import Never

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array, mask_gradient
from axone.autograd.ops.dtypes import adopt, misfit, operands, values
from axone.autograd.pytorch_names import unknown_argument
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor, needs_grad, raw


def maximum(a: Operand, b: Operand) -> Tensor:
    """Return the larger of two elements, for each pair.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> a, b = (ag.Tensor(t, requires_grad=True) for t in ([1.0, 5.0], [3.0, 5.0]))
    >>> ag.maximum(a, b).sum().backward()
    >>> a.grad, b.grad  # the two fives receive one half each
    (array([0. , 0.5], dtype=float32), array([1. , 0.5], dtype=float32))
    """
    x, y = operands("maximum", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return _share(g, x, y) if needs_a else None, _share(g, y, x) if needs_b else None

    try:
        data = np.maximum(x, y)
    except ValueError:
        raise misfit("maximum", x, y) from None
    return record("maximum", data, (a, b), vjp)


def minimum(a: Operand, b: Operand) -> Tensor:
    """Return the smaller of two elements, for each pair.

    Parameters
    ----------
    a, b : Tensor or array_like
        Of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.minimum([1.0, 5.0], [3.0, 4.0])
    Tensor([1., 4.])
    """
    x, y = operands("minimum", a, b)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return _share(g, y, x) if needs_a else None, _share(g, x, y) if needs_b else None

    try:
        data = np.minimum(x, y)
    except ValueError:
        raise misfit("minimum", x, y) from None
    return record("minimum", data, (a, b), vjp)


def _share(g: Array, larger: Array, smaller: Array) -> Array:
    """Return the gradient of `larger` in a maximum: g where it is larger, and half of g where both are equal."""
    share = np.add(larger > smaller, 1, dtype=g.dtype)  # 2, or 1 where they are equal
    share *= 0.5
    share *= mask_gradient(g, larger >= smaller)
    return share


def clip(x: Operand, a_min: ArrayLike | None = None, a_max: ArrayLike | None = None, **unknown: Never) -> Tensor:
    """Limit each element to a range.

    Parameters
    ----------
    x : Tensor or array_like
    a_min, a_max : array_like, optional
        The bounds, which are constants: for bounds that require gradients use `maximum` and `minimum`.

    Returns
    -------
    Tensor, shape of `x`

    Raises
    ------
    TypeError
        If a bound requires gradients.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.clip([-2.0, 0.5, 2.0], -1, 1)
    Tensor([-1. ,  0.5,  1. ])
    """
    if unknown:
        raise unknown_argument("clip", unknown)
    if needs_grad(a_min) or needs_grad(a_max):
        raise TypeError("clip needs constant bounds, got one that requires gradients: use maximum and minimum")
    data = values(x)
    low, high = (None if bound is None else adopt("clip", raw(bound), data) for bound in (a_min, a_max))
    result = np.clip(data, low, high)
    return record("clip", result, (x,), lambda g: (mask_gradient(g, result == data),))


def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """Select elements from `a` where a condition is true, and from `b` elsewhere.

    Parameters
    ----------
    condition : array_like of bool
    a, b : Tensor or array_like
        All three of shapes that broadcast.

    Returns
    -------
    Tensor, broadcast shape

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> ag.where([True, False], [1.0, 2.0], 0.0)
    Tensor([1., 0.])
    """
    x, y = operands("where", a, b)
    mask = np.asarray(raw(condition), dtype=bool)
    needs_a, needs_b = needs_grad(a), needs_grad(b)

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        return mask_gradient(g, mask) if needs_a else None, mask_gradient(g, ~mask) if needs_b else None

    try:
        data = np.where(mask, x, y)
    except ValueError:
        raise misfit("where", mask, x, y) from None
    return record("where", data, (a, b), vjp)
