"""Names of PyTorch that axone.nn lacks are refused with what to write instead."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import axone.autograd
from axone import nn
from axone.autograd import Tensor
from axone.nn import Linear, Module, ReLU, Sequential, functional, pytorch


@pytest.mark.parametrize(("name", "hint"), pytorch.LAYERS.items())
def test_a_layer_of_pytorch_is_refused_with_ours(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'axone.nn' has no attribute '{name}': ") as caught:
        getattr(nn, name)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(("name", "hint"), pytorch.FUNCTIONS.items())
def test_a_function_of_pytorch_is_refused_with_ours(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'axone.nn.functional' has no attribute '{name}': ") as caught:
        getattr(functional, name)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(("name", "hint"), pytorch.INITIALIZERS.items())
def test_an_initializer_of_pytorch_is_refused_with_ours(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'axone.nn.init' has no attribute '{name}': ") as caught:
        getattr(nn.init, name)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(("name", "hint"), pytorch.METHODS.items())
def test_a_method_of_pytorch_is_refused_with_ours(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"'ReLU' object has no attribute '{name}': ") as caught:
        getattr(ReLU(), name)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(("name", "hint"), pytorch.ARGUMENTS.items())
@pytest.mark.parametrize("layer", [lambda **options: Linear(2, 3, **options), ReLU, Sequential])
def test_an_argument_of_pytorch_is_refused_with_ours(layer: Callable[..., Module], name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"takes no argument '{name}': ") as caught:
        layer(**{name: None})
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize(("name", "hint"), pytorch.KEYWORDS.items())
@pytest.mark.parametrize(
    "function",
    [
        functional.softmax,
        lambda x, **options: functional.scaled_dot_product_attention(x, x, x, **options),
        lambda x, **options: functional.cross_entropy(x, np.zeros(2, int), **options),
        lambda x, **options: functional.mse_loss(x, x, **options),
        lambda x, **options: functional.dropout(x, 0.5, rng=np.random.default_rng(), **options),
    ],
)
def test_a_keyword_of_a_function_of_pytorch_is_refused_with_ours(
    function: Callable[..., Tensor], name: str, hint: str
) -> None:
    with pytest.raises(TypeError, match=rf"\(\) got an unexpected keyword argument '{name}': ") as caught:
        function(Tensor(np.zeros((2, 3), np.float32)), **{name: None})
    assert str(caught.value).endswith(hint)


def test_every_hint_names_something_that_exists() -> None:
    for hint in (
        hint
        for table in (pytorch.LAYERS, pytorch.FUNCTIONS, pytorch.INITIALIZERS, pytorch.METHODS)
        for hint in table.values()
    ):
        for word in hint.replace(",", " ").replace(":", " ").replace("(", " ").split():
            if word.startswith(("nn.", "axone.")):
                path = word.removeprefix("axone.").split(".")
                found: Any = {"nn": nn, "autograd": axone.autograd}[path[0]]
                for part in path[1:]:
                    found = getattr(found, part)


def test_other_missing_names_give_the_usual_error() -> None:
    with pytest.raises(AttributeError, match=r"^'Linear' object has no attribute 'wieght'"):
        getattr(Linear(2, 3), "wieght")  # noqa: B009 - mypy refuses the attribute
    with pytest.raises(AttributeError, match=r"^module 'axone\.nn' has no attribute 'Conv2d'"):
        getattr(nn, "Conv2d")  # noqa: B009 - likewise
    with pytest.raises(TypeError, match="unexpected keyword argument 'biass'"):
        Linear(2, 3, biass=False)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(TypeError, match=r"ReLU\(\) takes no arguments"):
        ReLU(3)  # type: ignore[call-arg]  # on purpose


def test_a_property_that_lacks_an_attribute_names_that_attribute() -> None:
    class Broken(Module):
        @property
        def width(self) -> int:
            return self.widht  # type: ignore[attr-defined, no-any-return]  # on purpose

    with pytest.raises(AttributeError, match="has no attribute 'widht'"):
        _ = Broken().width


def test_a_class_with_forward_and_no_call_is_refused() -> None:
    for base in (Module, Linear):
        with pytest.raises(TypeError, match=r"Net defines forward\(\), which nothing calls: name it __call__"):
            type("Net", (base,), {"forward": lambda _, x: x})


def test_a_call_of_ones_own_may_call_forward() -> None:
    class Base(Module):
        def __call__(self, x: Tensor) -> Tensor:
            return self.forward(x)

        def forward(self, x: Tensor) -> Tensor:
            return x

    class Doubled(Base):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    assert Doubled()(Tensor([1.0])).item() == 2


def test_a_layer_of_ones_own_may_take_any_argument() -> None:
    class Placed(Module):
        def __init__(self, device: str, **options: Any) -> None:
            self.device, self.options = device, options

    placed = Placed("here", dtype=np.float16)
    assert (placed.device, placed.options) == ("here", {"dtype": np.float16})


def test_signatures_are_those_of_the_constructors() -> None:
    assert list(inspect.signature(Linear).parameters) == ["in_features", "out_features", "bias", "rng"]
    assert not inspect.signature(ReLU).parameters
