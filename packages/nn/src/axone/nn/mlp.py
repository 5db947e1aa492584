"""The feed-forward part of a Transformer block."""

import numpy as np

from axone.autograd import Tensor
from axone.nn import init
from axone.nn.dropout import Dropout
from axone.nn.functional import gelu
from axone.nn.linear import Linear
from axone.nn.module import Module


class MLP(Module):
    """Two linear layers with a non-linearity between: ``down(gelu(up(x)))``.

    Parameters
    ----------
    dim : int
        C, the width before and after.
    hidden_dim : int
        The width between.
    bias : bool, default True
        Whether the layers add a bias.
    dropout : float, default 0.0
        The probability of dropping an element of the output in training.
    rng : numpy.random.Generator, optional
        Where the first values and the masks come from; None draws a fresh one.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = init.generator(rng)
        self.up_proj = Linear(dim, hidden_dim, bias=bias, rng=rng)
        self.down_proj = Linear(hidden_dim, dim, bias=bias, rng=rng)
        self.dropout = Dropout(dropout, rng=rng.spawn(1)[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape (..., C)

        Returns
        -------
        Tensor, shape (..., C)
        """
        return self.dropout(self.down_proj(gelu(self.up_proj(x))))
