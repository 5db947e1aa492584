"""The base class: the walk over parameters and modules, states, replicas, and the tree that repr shows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

from axone.autograd import Tensor, relu
from axone.nn import (
    Dropout,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    Module,
    Parameter,
    Sequential,
    reseed_dropout,
)
from axone.nn.extend import replace_modules


class Tied(Module):
    """An output layer that shares its weight with an embedding, and modules in a dict."""

    def __init__(self) -> None:
        self.embedding = Embedding(5, 4)
        head = Linear(4, 5, bias=False)
        head.weight = self.embedding.weight
        self.parts = {"head": head, "scale": Parameter([2.0])}
        self.again = self.embedding.weight
        self.parent = self  # a cycle


def test_tied_parameters_count_once() -> None:
    model = Tied()
    assert list(model.state_dict()) == ["embedding.weight", "parts.scale"]
    assert model.num_parameters() == 21
    twin = model.replica()
    assert twin.again is twin.embedding.weight
    assert twin.parent is twin


def test_a_replica_keeps_frozen_parameters_frozen() -> None:
    layer = Linear(2, 2)
    layer.weight.requires_grad = False
    assert [parameter.requires_grad for parameter in layer.replica().parameters()] == [False, True]


def test_replicas_draw_different_dropout_masks() -> None:
    layer = Dropout(0.5, rng=np.random.default_rng(0))
    x = Tensor(np.ones(100, np.float32))
    masks = [module(x).data for module in (layer, layer.replica(), layer.replica())]
    assert not any(np.array_equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_dropout_masks_are_a_function_of_the_key() -> None:
    model, x = Sequential(Dropout(0.5), Dropout(0.5)), Tensor(np.ones(100, np.float32))
    outputs = []
    for key in ((1, 2, 3), (1, 2, 3), (1, 2, 4)):
        reseed_dropout(model, key)
        outputs.append(model(x).data)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_a_state_is_loaded_completely_or_not_at_all_and_the_error_lists_every_fault() -> None:
    layer = Linear(2, 3)
    before = layer.weight.data.copy()
    with pytest.raises(ValueError, match="the state does not match this Linear") as caught:
        layer.load_state_dict({"weight": np.ones((2, 3)), "scale": np.ones(3)})
    assert str(caught.value).split(": ")[1].split("; ") == [
        "weight must have shape (3, 2), got (2, 3)", "bias is missing", "scale is not expected",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="bias must hold real numbers, got complex128"):
        layer.load_state_dict({"weight": np.ones((3, 2)), "bias": np.ones(3, np.complex128)})
    np.testing.assert_array_equal(layer.weight.data, before)


def test_a_partial_state_can_be_loaded_with_strict_false() -> None:
    layer = Linear(2, 3)
    layer.load_state_dict({"bias": np.ones(3), "scale": np.ones(3)}, strict=False)
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias.data, np.ones(3))
    with pytest.raises(ValueError, match="weight must have shape"):
        layer.load_state_dict({"weight": np.ones(3)}, strict=False)


def test_the_repr_is_a_tree() -> None:
    model = Sequential(FeedForward(4, 8), LayerNorm(4, bias=False))
    assert repr(model).splitlines() == [
        "Sequential  80 parameters",
        "  layers.0  FeedForward(4, 8, activation='gelu')  76",
        "    layers.0.up_proj  Linear(4, 8)  40",
        "    layers.0.down_proj  Linear(8, 4)  36",
        "    layers.0.dropout  Dropout(0.0)  0",
        "  layers.1  LayerNorm(4, bias=False)  4",
    ]


class Scaled(Module):
    """A layer with Parameters of its own, and layers in a dict, in lists of lists, and in a layer that has arguments."""

    def __init__(self) -> None:
        self.scale = Parameter(np.ones((2, 3), np.float32))
        self.parts = {"head": Linear(2, 1), "10": [[Linear(1, 1), Parameter([1.0])]]}


class Nested(Module):
    def __init__(self) -> None:
        self.layers = (Scaled(),)


def test_the_repr_indents_by_modules_and_lists_own_parameters() -> None:
    assert repr(Nested()).splitlines() == [
        "Nested  12 parameters",
        "  layers.0  Scaled  12",
        "    layers.0.scale  Parameter(2, 3)  6",
        "    layers.0.parts.head  Linear(2, 1)  3",
        "    layers.0.parts.10.0.0  Linear(1, 1)  2",
        "    layers.0.parts.10.0.1  Parameter(1,)  1",
    ]
    assert repr(Linear(2, 1)) == "Linear(2, 1)"


def test_the_repr_of_a_subclass_has_its_name() -> None:
    assert repr(type("Projection", (Linear,), {})(2, 1)) == "Projection(2, 1)"


def test_modules_yields_modules_and_named_modules_yields_pairs() -> None:
    model = Sequential(Linear(2, 1), relu, Sequential(Linear(1, 1)))
    inner = model.layers[2]
    assert isinstance(inner, Sequential)
    assert list(model.modules()) == [model, model.layers[0], inner, inner.layers[0]]
    assert [path for path, _ in model.named_modules()] == ["", "layers.0", "layers.2", "layers.2.layers.0"]
    assert [module for _, module in model.named_modules()] == list(model.modules())


def test_a_replacement_takes_the_place_and_the_mode_of_a_module() -> None:
    model = Sequential(FeedForward(4, hidden_dim=16)).eval()
    other = Linear(16, 4)
    replace_modules(model, {"layers.0.down_proj": other})
    assert dict(model.named_modules())["layers.0.down_proj"] is other
    assert not other.training
    with pytest.raises(KeyError, match="nothing"):
        replace_modules(model, {"nothing": other})


def test_train_takes_a_mode() -> None:
    model = Sequential(Dropout(0.5))
    assert model.train(mode=False) is model
    assert [module.training for module in model.modules()] == [False, False]
    assert [module.training for module in model.train(mode=True).modules()] == [True, True]


class Pair(NamedTuple):
    first: Module
    second: Parameter


class Named(dict[str, Any]):
    """A dict of a class of its own."""


class Grouped(Module):
    """Layers in containers of several classes."""

    def __init__(self) -> None:
        self.pair = Pair(Linear(2, 2), Parameter([1.0]))
        self.ordered: OrderedDict[str, Any] = OrderedDict(norm=LayerNorm(2), pair=self.pair)
        self.named = Named(linear=self.pair.first)
        self.again = self.named
        self.lists = [[Dropout(0.5)], (1, "two", self.pair.second)]


def test_a_replica_keeps_named_tuples_and_classes_of_containers() -> None:
    module = Grouped()
    twin = module.replica()
    assert isinstance(twin.pair, Pair)
    assert isinstance(twin.ordered, OrderedDict)
    assert isinstance(twin.named, Named)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in module.named_parameters()]
    assert twin.ordered["pair"].first is twin.pair.first is twin.named["linear"] is not module.pair.first
    assert twin.again is twin.named is not module.named
    assert twin.lists[1] == (1, "two", twin.pair.second)
    assert twin.pair.second.data is module.pair.second.data
