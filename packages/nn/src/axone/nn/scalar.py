"""Neurons, layers and networks on `axone.autograd.Value`, as a teaching text: every number can be followed.

A neuron computes the weighted sum of its inputs plus a bias, and applies an activation. A layer is a list of neurons
with the same inputs, a network a list of layers. The rest of the package computes the same with arrays and does not use
this module.

References
----------
.. [1] F. Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the brain",
   https://doi.org/10.1037/h0042519
.. [2] A. Karpathy, "micrograd", https://github.com/karpathy/micrograd
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from axone.autograd import Value

Activation: TypeAlias = Literal["tanh", "relu", "leaky_relu", "sigmoid", "linear"]

_ACTIVATIONS: dict[Activation, Callable[[Value], Value]] = {
    "tanh": Value.tanh,
    "relu": Value.relu,
    "leaky_relu": Value.leaky_relu,
    "sigmoid": Value.sigmoid,
    "linear": lambda x: x,
}


class Neuron:
    """Neuron: ``activation(w @ x + b)``.

    Parameters
    ----------
    n_inputs : int
        The number of inputs.
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "linear"}, default "tanh"
        The function applied to the sum.
    rng : numpy.random.Generator, optional
        The generator of the initial weights; by default a fresh one.

    Attributes
    ----------
    weights : list of Value
        Start uniform in ``[-1 / sqrt(n_inputs), 1 / sqrt(n_inputs))``.
    bias : Value
        Starts at zero.

    Raises
    ------
    ValueError
        If the activation has another name.

    Examples
    --------
    >>> from axone.nn.scalar import Neuron
    >>> neuron = Neuron(2)
    >>> y = neuron([1.0, -2.0])
    >>> y.backward()
    >>> neuron.weights[1].grad == -2.0 * neuron.weights[0].grad
    True
    """

    def __init__(
        self, n_inputs: int, *, activation: Activation = "tanh", rng: np.random.Generator | None = None
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation ({activation!r}) must be one of {', '.join(_ACTIVATIONS)}")
        bound = max(n_inputs, 1) ** -0.5
        self.weights = [Value(float(w)) for w in np.random.default_rng(rng).uniform(-bound, bound, n_inputs)]
        self.bias = Value(0.0)
        self.activation: Activation = activation

    def __call__(self, x: Sequence[Value | float]) -> Value:
        """Return the neuron's output.

        Parameters
        ----------
        x : sequence of Value or float, length n_inputs

        Returns
        -------
        Value

        Raises
        ------
        ValueError
            If `x` has another length.
        """
        if len(x) != len(self.weights):
            raise ValueError(f"{self!r} needs {len(self.weights)} inputs, got {len(x)}")
        total = self.bias
        for w, value in zip(self.weights, x):
            total = total + w * value
        return _ACTIVATIONS[self.activation](total)

    def parameters(self) -> list[Value]:
        """Return the weights and the bias."""
        return [*self.weights, self.bias]

    def __repr__(self) -> str:
        return f"Neuron({len(self.weights)}, activation={self.activation!r})"


class Layer:
    """Layer of neurons with the same inputs.

    Parameters
    ----------
    n_inputs, n_outputs : int
        The number of inputs, and of neurons.
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "linear"}, default "tanh"
        The activation of every neuron.
    rng : numpy.random.Generator, optional
        The generator of the initial weights; by default a fresh one.

    Attributes
    ----------
    neurons : list of Neuron
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        activation: Activation = "tanh",
        rng: np.random.Generator | None = None,
    ) -> None:
        rng = np.random.default_rng(rng)
        self.neurons = [Neuron(n_inputs, activation=activation, rng=rng) for _ in range(n_outputs)]

    def __call__(self, x: Sequence[Value | float]) -> list[Value]:
        """Return the outputs of all neurons.

        Parameters
        ----------
        x : sequence of Value or float, length n_inputs

        Returns
        -------
        list of Value, length n_outputs
        """
        return [neuron(x) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        """Return the parameters of all neurons."""
        return [p for neuron in self.neurons for p in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer({len(self.neurons)} x {self.neurons[0]!r})" if self.neurons else "Layer()"


class MLP:
    """Multilayer perceptron: a chain of layers.

    Parameters
    ----------
    n_inputs : int
        The number of inputs.
    layer_sizes : sequence of int
        The number of neurons of each layer; the last is the number of outputs.
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "linear"}, default "tanh"
        The activation of every layer but the last.
    output_activation : {"tanh", "relu", "leaky_relu", "sigmoid", "linear"}, default "linear"
        The activation of the last layer.
    rng : numpy.random.Generator, optional
        The generator of the initial weights; by default a fresh one.

    Attributes
    ----------
    layers : list of Layer

    Raises
    ------
    ValueError
        If there is no layer.

    Examples
    --------
    >>> from axone.autograd.optim import SGD
    >>> from axone.nn.scalar import MLP
    >>> net = MLP(2, [4, 1])
    >>> optimizer = SGD(net.parameters(), lr=0.1)
    >>> (score,) = net([0.5, -1.0])
    >>> loss = (score - 1.0) ** 2
    >>> loss.backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        n_inputs: int,
        layer_sizes: Sequence[int],
        *,
        activation: Activation = "tanh",
        output_activation: Activation = "linear",
        rng: np.random.Generator | None = None,
    ) -> None:
        if not layer_sizes:
            raise ValueError("layer_sizes is empty: an MLP needs the size of at least one layer")
        rng = np.random.default_rng(rng)
        sizes = [n_inputs, *layer_sizes]
        bends = [activation] * (len(layer_sizes) - 1) + [output_activation]
        self.layers = [Layer(n, m, activation=bend, rng=rng) for n, m, bend in zip(sizes, sizes[1:], bends)]

    def __call__(self, x: Sequence[Value | float]) -> list[Value]:
        """Return the outputs of the last layer.

        Parameters
        ----------
        x : sequence of Value or float, length n_inputs

        Returns
        -------
        list of Value, length ``layer_sizes[-1]``
        """
        for layer in self.layers[:-1]:
            x = layer(x)
        return self.layers[-1](x)

    def parameters(self) -> list[Value]:
        """Return the parameters of all layers, first to last."""
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP({', '.join(map(repr, self.layers))})"
