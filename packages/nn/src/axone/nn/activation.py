"""Activation functions as modules, for use in `Sequential` and in the tree that `repr` shows.

They have no parameters: the functions of `axone.nn.functional` and `axone.autograd` do the same in any `__call__`.
"""

from typing import Literal

from axone.autograd import Tensor, relu, sigmoid, tanh
from axone.nn.functional import gelu, silu
from axone.nn.module import Module


class ReLU(Module):
    """Rectified linear unit: x where it is positive, and 0 elsewhere.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import ReLU
    >>> ReLU()(Tensor([-1.0, 2.0]))
    Tensor([0., 2.])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``max(x, 0)``.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return relu(x)


class GELU(Module):
    """Gaussian error linear unit: x times the probability that a normal variable is below x.

    Parameters
    ----------
    approximate : {"tanh", "none"}, default "tanh"
        Use the tanh approximation or the exact probability, as `axone.nn.functional.gelu`.

    Raises
    ------
    ValueError
        If `approximate` is neither.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import GELU
    >>> GELU()(Tensor([-1.0, 2.0]))
    Tensor([-0.158808 ,  1.9545977])
    """

    def __init__(self, approximate: Literal["tanh", "none"] = "tanh") -> None:
        if approximate not in {"tanh", "none"}:
            raise ValueError(f'approximate ({approximate!r}) must be "tanh" or "none"')
        self.approximate: Literal["tanh", "none"] = approximate

    def __call__(self, x: Tensor) -> Tensor:
        """Return x times its gate.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Return the approximation, unless it is the default."""
        return "" if self.approximate == "tanh" else f"approximate={self.approximate!r}"


class SiLU(Module):
    """Sigmoid linear unit, also named swish: x times its logistic function.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import SiLU
    >>> SiLU()(Tensor([0.0, 1.0]))
    Tensor([0.       , 0.7310586])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x / (1 + exp(-x))``.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return silu(x)


class Tanh(Module):
    """Hyperbolic tangent.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Tanh
    >>> Tanh()(Tensor([0.0, 1.0]))
    Tensor([0.       , 0.7615942])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``tanh(x)``.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return tanh(x)


class Sigmoid(Module):
    """Logistic function.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Sigmoid
    >>> Sigmoid()(Tensor([0.0, 1.0]))
    Tensor([0.5      , 0.7310586])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``1 / (1 + exp(-x))``.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return sigmoid(x)
