"""Normalization layers."""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn.functional import layer_norm, rms_norm
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.functional.validation import check_last_axis, check_sizes
from axone.nn.module import Module, Parameter


class LayerNorm(Module):
    """Shift each vector to mean 0, scale it to variance 1, then apply a learned weight and bias.

    Parameters
    ----------
    dim : int
        C, the length of a vector.
    eps : float, default 1e-5
        Added to the variance.
    bias : bool, default True
        Whether a bias is added.

    Attributes
    ----------
    weight : Parameter, shape (C,)
        Starts at one.
    bias : Parameter, shape (C,), or None
        Starts at zero.

    Raises
    ------
    TypeError, ValueError
        If `dim` is not an integer, or negative.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import LayerNorm
    >>> LayerNorm(3)(Tensor([1.0, 2.0, 3.0])).data.round(3)
    array([-1.225,  0.   ,  1.225], dtype=float32)
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        check_sizes("LayerNorm", dim=dim)
        self.eps = eps
        self.weight = Parameter(np.ones(dim, np.float32))
        self.bias = Parameter(np.zeros(dim, np.float32)) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normalized vectors.

        Parameters
        ----------
        x : Tensor, shape (..., C)

        Returns
        -------
        Tensor, shape (..., C)

        Raises
        ------
        ValueError
            If the last axis of `x` is not C long.
        """
        check_last_axis(self._summary, x, self.weight.size)
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def inference(self, dense: Dense = dense_product) -> Forward:  # noqa: ARG002 - no product
        """Return the layer's forward on plain arrays."""
        return _norm(self.weight.data, None if self.bias is None else self.bias.data, self.eps, centred=True)

    def extra_repr(self) -> str:
        """Return the layer's size."""
        return f"{self.weight.size}{'' if self.bias is not None else ', bias=False'}"


class RMSNorm(Module):
    """Divide each vector by its root mean square, then apply a learned weight.

    Parameters
    ----------
    dim : int
        C, the length of a vector.
    eps : float, default 1e-6
        Added to the mean square.

    Attributes
    ----------
    weight : Parameter, shape (C,)
        Starts at one.

    Raises
    ------
    TypeError, ValueError
        If `dim` is not an integer, or negative.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import RMSNorm
    >>> RMSNorm(2)(Tensor([3.0, 4.0])).data.round(3)
    array([0.849, 1.131], dtype=float32)
    """

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        check_sizes("RMSNorm", dim=dim)
        self.eps = eps
        self.weight = Parameter(np.ones(dim, np.float32))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normalized vectors.

        Parameters
        ----------
        x : Tensor, shape (..., C)

        Returns
        -------
        Tensor, shape (..., C)

        Raises
        ------
        ValueError
            If the last axis of `x` is not C long.
        """
        check_last_axis(self._summary, x, self.weight.size)
        return rms_norm(x, self.weight, eps=self.eps)

    def inference(self, dense: Dense = dense_product) -> Forward:  # noqa: ARG002 - no product
        """Return the layer's forward on plain arrays."""
        return _norm(self.weight.data, None, self.eps, centred=False)

    def extra_repr(self) -> str:
        """Return the layer's size."""
        return f"{self.weight.size}"


def _norm(gamma: Array, beta: Array | None, eps: float, *, centred: bool) -> Forward:
    """Return the function that divides by the root mean square, after subtracting the mean if `centred`."""
    number = gamma.dtype.type
    share, epsilon = number(1 / gamma.size), number(eps)
    average = np.full_like(gamma, share) if centred else None

    def forward(x: Array) -> Array:
        if average is not None:  # a dot product for each row, as for one vector: the bits do not depend on the rows
            x = x - _column(x.dot(average) if x.ndim == 1 else np.vecdot(x, average))
        squares = x.dot(x) if x.ndim == 1 else np.vecdot(x, x)
        y: Array = x / _column(np.sqrt(squares * share + epsilon))
        y *= gamma
        if beta is not None:
            y += beta
        return y

    return forward


def _column(of_rows: Array) -> Array:
    """Return one number for each row as a column; that of a single vector stays as it is, which NumPy handles faster."""
    return of_rows[..., None] if of_rows.ndim else of_rows
