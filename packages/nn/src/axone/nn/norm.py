"""Normalization layers."""

import numpy as np

from axone.autograd import Tensor
from axone.nn.functional import layer_norm
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
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True) -> None:
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
        """
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def describe(self) -> str:
        """Return the layer with its size."""
        return f"LayerNorm({self.weight.size}{'' if self.bias is not None else ', bias=False'})"
