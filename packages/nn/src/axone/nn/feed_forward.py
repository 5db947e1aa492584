"""Feed-forward layers of a Transformer block.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", section 3.3, https://arxiv.org/abs/1706.03762
.. [2] N. Shazeer, "GLU Variants Improve Transformer", https://arxiv.org/abs/2002.05202
"""

from typing import Literal, TypeAlias, get_args

import numpy as np

from axone.autograd import Tensor, relu
from axone.nn.dropout import Dropout
from axone.nn.functional import gelu, relu2, silu, swiglu
from axone.nn.functional.activation import GELU_FACTORS, gelu_gate, swiglu_gate
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.functional.validation import check_last_axis
from axone.nn.linear import Linear
from axone.nn.module import Layer, Module, call_without_tape

Activation: TypeAlias = Literal["gelu", "silu", "relu", "relu2"]

_ACTIVATIONS: dict[Activation, Layer] = {"gelu": gelu, "silu": silu, "relu": relu, "relu2": relu2}


class FeedForward(Module):
    """Two linear layers with a non-linearity between: ``down(activation(up(x)))``.

    Parameters
    ----------
    dim : int
        C, the width before and after.
    hidden_dim : int
        The width between.
    activation : {"gelu", "silu", "relu", "relu2"}, default "gelu"
        The non-linearity; GELU in its tanh approximation.
    bias : bool, default True
        Whether the layers add a bias.
    dropout : float, default 0.0
        The probability of dropping an element of the output in training.
    rng : numpy.random.Generator, optional
        Draws the initial values and the dropout masks; None makes a new one.

    Attributes
    ----------
    up_proj, down_proj : Linear

    Raises
    ------
    ValueError
        If the activation has another value.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import FeedForward
    >>> FeedForward(4, 16)(Tensor([[1.0, 2.0, 3.0, 4.0]])).shape
    (1, 4)
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        activation: Activation = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation ({activation!r}) must be one of {', '.join(get_args(Activation))}")
        rng = np.random.default_rng(rng)
        self.activation: Activation = activation
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
        check_last_axis(self._summary, x, self.up_proj.weight.shape[1])
        return self.dropout(self.down_proj(_ACTIVATIONS[self.activation](self.up_proj(x))))

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays."""
        up, down = self.up_proj.inference(dense), self.down_proj.inference(dense)
        if self.activation == "gelu":
            activation = gelu_gate(self.up_proj.weight.dtype, **GELU_FACTORS)
        else:
            activation = call_without_tape(_ACTIVATIONS[self.activation])
        return lambda x: down(activation(up(x)))

    def extra_repr(self) -> str:
        """Return the layer's sizes and activation."""
        hidden_dim, dim = self.up_proj.weight.shape
        return f"{dim}, {hidden_dim}, activation={self.activation!r}"


class SwiGLU(Module):
    """A gated feed-forward layer: ``down(silu(gate(x)) * up(x))``.

    Parameters
    ----------
    dim : int
        C, the width before and after.
    hidden_dim : int
        The width between.
    bias : bool, default False
        Whether the layers add a bias.
    dropout : float, default 0.0
        The probability of dropping an element of the output in training.
    rng : numpy.random.Generator, optional
        Where the first values come from; None draws a fresh one.

    Attributes
    ----------
    gate_proj, up_proj, down_proj : Linear

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.nn import SwiGLU
    >>> SwiGLU(4, 16)(Tensor([[1.0, 2.0, 3.0, 4.0]])).shape
    (1, 4)
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        self.gate_proj = Linear(dim, hidden_dim, bias=bias, rng=rng)
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
        check_last_axis(self._summary, x, self.up_proj.weight.shape[1])
        return self.dropout(self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x))))

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays."""
        gate, up, down = (layer.inference(dense) for layer in (self.gate_proj, self.up_proj, self.down_proj))
        gated = swiglu_gate(self.gate_proj.weight.dtype, half=0.5)
        return lambda x: down(gated(gate(x), up(x)))

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        hidden_dim, dim = self.up_proj.weight.shape
        return f"{dim}, {hidden_dim}"
