"""Scalar neurons and networks: they equal the layers on arrays, and they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from axone import nn
from axone.autograd import Tensor, Value, leaky_relu, relu, sigmoid, tanh
from axone.autograd.optim import SGD
from axone.nn import Linear, Sequential
from axone.nn.module import Layer as ArrayLayer
from axone.nn.scalar import MLP, Layer, Neuron

BENDS: dict[Any, ArrayLayer] = {
    "tanh": tanh, "relu": relu, "leaky_relu": leaky_relu, "sigmoid": sigmoid, "linear": lambda x: x,
}  # fmt: skip


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("activation", BENDS)
def test_a_scalar_network_equals_linear_layers(activation: Any) -> None:
    net = MLP(3, [4, 2], activation=activation, rng=rng())
    arrays = Sequential(Linear(3, 4), BENDS[activation], Linear(4, 2)).astype(np.float64)
    layers = [part for part in arrays.layers if isinstance(part, Linear)]
    for layer, numbers in zip(layers, net.layers, strict=True):
        assert layer.bias is not None
        layer.weight.data[...] = [[w.data for w in neuron.weights] for neuron in numbers.neurons]
        layer.bias.data[...] = [neuron.bias.data for neuron in numbers.neurons]
    x = [0.5, -1.0, 2.0]
    out, expected = net(x), arrays(Tensor(np.array(x)))
    np.testing.assert_allclose([y.data for y in out], expected.data, atol=1e-15)
    (out[0] * 2.0 + out[1]).backward()
    expected.backward(np.array([2.0, 1.0]))
    for layer, numbers in zip(layers, net.layers, strict=True):
        assert layer.bias is not None
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        found = np.array([[w.grad for w in neuron.weights] for neuron in numbers.neurons])
        np.testing.assert_allclose(found, layer.weight.grad, atol=1e-14)
        found = np.array([neuron.bias.grad for neuron in numbers.neurons])
        np.testing.assert_allclose(found, layer.bias.grad, atol=1e-14)


@pytest.mark.parametrize("activation", BENDS)
def test_the_mlp_on_tensors_is_the_same_network_for_the_same_seed(activation: Any) -> None:
    scalar = MLP(3, [4, 2, 2], activation=activation, rng=rng())
    network = nn.MLP(3, [4, 2, 2], activation=activation, rng=rng())
    for layer, numbers in zip(network.layers, scalar.layers, strict=True):
        weights = np.array([[w.data for w in neuron.weights] for neuron in numbers.neurons], np.float32)
        np.testing.assert_array_equal(layer.weight.data, weights)
        assert layer.bias is not None
        assert not layer.bias.data.any()
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    expected = [[y.data for y in scalar(row.tolist())] for row in x]
    np.testing.assert_allclose(network(Tensor(x)).data, expected, rtol=1e-5, atol=1e-6)


def test_the_mlp_on_tensors_takes_the_other_activations() -> None:
    x = Tensor(np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32))
    network = nn.MLP(3, [2], output_activation="sigmoid", bias=False, rng=rng())
    np.testing.assert_array_equal(network(x).data, sigmoid(x @ network.layers[0].weight.T).data)
    assert network.num_parameters() == 6
    assert repr(network).startswith("MLP(3, [2], activation='tanh', output_activation='sigmoid')  6 parameters")
    assert nn.MLP(3, [2, 1], activation="gelu")(x).shape == (7, 1)
    with pytest.raises(
        ValueError, match=r"activation \('swish'\) must be one of tanh, relu, leaky_relu, sigmoid, linear"
    ):
        nn.MLP(2, [1], activation="swish")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="layer_sizes is empty: an MLP needs the size of at least one layer"):
        nn.MLP(2, [])


def test_an_mlp_learns_xor() -> None:
    net = MLP(2, [6, 1], rng=rng())
    optimizer = SGD(net.parameters(), lr=0.2)
    examples = [([0.0, 0.0], -1.0), ([0.0, 1.0], 1.0), ([1.0, 0.0], 1.0), ([1.0, 1.0], -1.0)]
    loss = Value(np.inf)
    for _ in range(300):
        optimizer.zero_grad()
        loss = Value(0.0)
        for x, y in examples:
            loss = loss + (net(x)[0] - y) ** 2 / 4
        loss.backward()
        optimizer.step()
    assert loss.data < 0.01


def test_parameters_and_sizes() -> None:
    assert len(Neuron(3).parameters()) == 4
    assert len(Layer(3, 5).parameters()) == 20
    net = MLP(2, [3, 1])
    assert len(net.parameters()) == 13
    assert [neuron.activation for layer in net.layers for neuron in layer.neurons] == ["tanh"] * 3 + ["linear"]
    assert repr(net) == "MLP(Layer(3 x Neuron(2, activation='tanh')), Layer(1 x Neuron(3, activation='linear')))"


def test_initial_weights_are_within_their_bound() -> None:
    neuron = Neuron(100, rng=rng())
    assert max(abs(w.data) for w in neuron.weights) <= 0.1
    assert neuron.bias.data == 0
    assert [w.data for w in neuron.weights] == [w.data for w in Neuron(100, rng=rng()).weights]


def test_invalid_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match=r"Neuron\(2, activation='tanh'\) needs 2 inputs, got 3"):
        Neuron(2)([1.0, 2.0, 3.0])
    with pytest.raises(
        ValueError, match=r"activation \('gelu'\) must be one of tanh, relu, leaky_relu, sigmoid, linear"
    ):
        Neuron(2, activation="gelu")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="layer_sizes is empty: an MLP needs the size of at least one layer"):
        MLP(2, [])
