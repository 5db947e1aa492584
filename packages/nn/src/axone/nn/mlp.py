"""MLP: the multilayer perceptron on Tensors."""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from axone.autograd import Tensor, leaky_relu, relu, sigmoid, tanh
from axone.nn import init
from axone.nn.arena import flatten
from axone.nn.functional import gelu, silu
from axone.nn.linear import Linear
from axone.nn.module import Layer, Module

MLPActivation: TypeAlias = Literal["tanh", "relu", "leaky_relu", "sigmoid", "linear", "gelu", "silu"]

_ACTIVATIONS: dict[MLPActivation, Layer] = {
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "linear": lambda x: x,
    "gelu": gelu,
    "silu": silu,
}


class MLP(Module):
    """Multilayer perceptron: linear layers with an activation between them.

    It is the network of `axone.nn.scalar.MLP` on batches of vectors: a generator of the same seed gives the same
    weights. Weights start uniform in ``[-1 / sqrt(n), 1 / sqrt(n))`` for a layer of n inputs, biases at zero.

    Parameters
    ----------
    in_features : int
        The length of the input's last axis.
    layer_sizes : sequence of int
        The number of neurons of each layer; the last is the length of the output's last axis.
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "linear", "gelu", "silu"}, default "tanh"
        The activation of every layer but the last.
    output_activation : same names, default "linear"
        The activation of the last layer.
    bias : bool, default True
        Whether the layers add a bias.
    rng : numpy.random.Generator, optional
        The generator of the first values; None makes a fresh one.

    Attributes
    ----------
    layers : list of Linear

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, there is no layer, or an activation has another name.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import MLP
    >>> MLP(2, [16, 16, 1])(Tensor(np.zeros((100, 2), np.float32))).shape
    (100, 1)
    """

    def __init__(
        self,
        in_features: int,
        layer_sizes: Sequence[int],
        *,
        activation: MLPActivation = "tanh",
        output_activation: MLPActivation = "linear",
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ) -> None:
        if not layer_sizes:
            raise ValueError("layer_sizes is empty: an MLP needs the size of at least one layer")
        for name, value in (("activation", activation), ("output_activation", output_activation)):
            if value not in _ACTIVATIONS:
                raise ValueError(f"{name} ({value!r}) must be one of {', '.join(get_args(MLPActivation))}")
        rng = np.random.default_rng(rng)
        sizes = [in_features, *layer_sizes]
        self.layers = [_linear(n, m, bias=bias, rng=rng) for n, m in itertools.pairwise(sizes)]
        self.activation: MLPActivation = activation
        self.output_activation: MLPActivation = output_activation

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs of the last layer.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)

        Returns
        -------
        Tensor, shape (..., layer_sizes[-1])
        """
        for layer in self.layers[:-1]:
            x = _ACTIVATIONS[self.activation](layer(x))
        return _ACTIVATIONS[self.output_activation](self.layers[-1](x))

    def extra_repr(self) -> str:
        """Return the sizes and activations."""
        sizes = [layer.out_features for layer in self.layers]
        last = "" if self.output_activation == "linear" else f", output_activation={self.output_activation!r}"
        return f"{self.layers[0].in_features}, {sizes}, activation={self.activation!r}{last}"


def _linear(in_features: int, out_features: int, *, bias: bool, rng: np.random.Generator) -> Linear:
    """Return a layer that draws its weights as the neurons of `axone.nn.scalar.Layer` do."""
    with init.skip():
        layer = Linear(in_features, out_features, bias=bias)
    flatten(layer.parameters())
    if not init.is_skipping():
        bound = in_features**-0.5
        layer.weight.data[...] = rng.uniform(-bound, bound, layer.weight.shape)
    if layer.bias is not None:
        init.constant(layer.bias, 0)
    return layer
