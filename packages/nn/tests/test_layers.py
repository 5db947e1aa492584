"""Layers one by one: what they compute, their attributes, and the errors for arguments and inputs that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.nn import (
    GELU,
    MLP,
    Dropout,
    Embedding,
    FeedForward,
    Head,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    RMSNorm,
    RotaryEmbedding,
    Sequential,
    SwiGLU,
    Transformer,
    TransformerBlock,
    functional,
)


def floats(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype))


def block(rng: np.random.Generator) -> TransformerBlock:
    attention = MultiHeadAttention(8, 2, dropout=0.1, rng=rng)
    mlp = FeedForward(8, 12, dropout=0.1, rng=rng)
    return TransformerBlock(attention, mlp, attention_norm=LayerNorm(8), mlp_norm=LayerNorm(8))


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu", "relu2"])
def test_feed_forward_applies_its_activation(activation: Any) -> None:
    mlp = FeedForward(3, 3, activation=activation, bias=False)
    mlp.up_proj.weight.data[...] = mlp.down_proj.weight.data[...] = np.eye(3)
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    expected = {"gelu": x * (1 + tanh) / 2, "silu": x / (1 + np.exp(-x)), "relu": x * (x > 0), "relu2": x**2 * (x > 0)}
    np.testing.assert_allclose(mlp(Tensor(x)).data, expected[activation], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Linear(-1, 2), r"in_features \(-1\) of Linear must be at least 1"),
        (lambda: Linear(1, "2"), "out_features of Linear must be an integer, got '2'"),  # type: ignore[arg-type]  # on purpose
        (lambda: Embedding(2.0, 3), "num_embeddings of Embedding must be an integer, got 2.0"),  # type: ignore[arg-type]  # on purpose
        (lambda: LayerNorm(-3), r"dim \(-3\) of LayerNorm must be at least 1"),
        (lambda: RMSNorm((3,)), r"dim of RMSNorm must be an integer, got \(3,\)"),  # type: ignore[arg-type]  # on purpose
        (lambda: MultiHeadAttention(8, 0), r"num_heads \(0\) of MultiHeadAttention must be at least 1"),
    ],
)
def test_sizes_must_be_positive_integers(make: Callable[[], Module], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        make()


def test_gelu_takes_the_exact_probability() -> None:
    exact = GELU(approximate="none")
    np.testing.assert_array_equal(exact(floats(5)).data, functional.gelu(floats(5), "none").data)
    assert repr(exact) == "GELU(approximate='none')"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(0, 3), lambda: Linear(3, 0), lambda: Embedding(0, 3), lambda: Embedding(3, 0), lambda: LayerNorm(0),
        lambda: RMSNorm(0), lambda: FeedForward(3, 0), lambda: SwiGLU(0, 3), lambda: Head(3, 0), lambda: MLP(0, [1]),
        lambda: MLP(1, [0, 1]), lambda: MultiHeadAttention(0, 1),
    ],
)  # fmt: skip
def test_linear_0_3_and_layer_norm_0_are_refused_when_they_are_built(make: Callable[[], Module]) -> None:
    with pytest.raises(ValueError, match=r"\(0\) of \w+ must be at least 1"):
        make()


def test_layers_name_what_they_get_instead_of_a_tensor() -> None:
    layers: list[Any] = [Linear(3, 2), LayerNorm(3), RMSNorm(3), FeedForward(3, 4), SwiGLU(3, 4), MLP(3, [2])]
    for layer in layers:
        with pytest.raises(TypeError, match=r"needs Tensors, got list: wrap it in Tensor\(\.\.\.\)"):
            layer([1.0, 2.0, 3.0])


def test_a_float64_array_without_a_tensor_names_the_whole_fix() -> None:
    layer: Any = Linear(3, 2)
    with pytest.raises(TypeError) as caught:
        layer(np.ones((5, 3)))
    assert str(caught.value) == "Linear(3, 2) needs Tensors, got ndarray: wrap it in Tensor(..., dtype=numpy.float32)"
    with pytest.raises(TypeError, match=r"wrap it in Tensor\(\.\.\.\)$"):
        layer(np.ones((5, 3), np.float32))


def test_a_float64_array_for_a_float32_layer_names_the_fix() -> None:
    with pytest.raises(TypeError) as caught:
        Linear(3, 2)(Tensor(np.ones(3)))
    assert str(caught.value) == (
        "linear needs Tensors of one dtype, got float64 and float32: write Tensor(array, dtype=numpy.float32), "
        "or convert a module with astype(numpy.float64)"
    )


def test_sequential_names_how_to_pass_a_list() -> None:
    with pytest.raises(TypeError, match=r"a layer must be callable, got list: write Sequential\(\*layers\)"):
        Sequential([Linear(2, 2)])  # type: ignore[arg-type]  # on purpose


def test_layers_have_their_sizes_as_attributes() -> None:
    linear, table = Linear(2, 3), Embedding(5, 4)
    assert (linear.in_features, linear.out_features) == (2, 3)
    assert (table.num_embeddings, table.embedding_dim) == (5, 4)


def test_invalid_arguments_and_inputs_are_errors() -> None:
    with pytest.raises(ValueError, match=r"activation \('erf'\) must be one of gelu, silu, relu, relu2"):
        FeedForward(2, 2, activation="erf")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"approximate \('erf'\) must be \"tanh\" or \"none\""):
        GELU("erf")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"p must be a number in \[0, 1\), got '0\.5'"):
        Dropout("0.5")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"dtype \(int64\) must be a floating-point dtype"):
        Linear(2, 2).astype(np.int64)
    with pytest.raises(TypeError, match="state must be a mapping of names to arrays, got str"):
        Linear(2, 2).load_state_dict("model.safetensors")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"p \(1.0\) must be in \[0, 1\)"):
        Dropout(1.0)
    with pytest.raises(ValueError, match=r"head_dim \(3\) must be even"):
        RotaryEmbedding(3)
    with pytest.raises(ValueError, match=r"caches \(0\) must be as many as blocks \(1\)"):
        Transformer([block(np.random.default_rng(0))], norm=LayerNorm(8))(floats(1, 2, 8), caches=[])
    with pytest.raises(ValueError, match=r"positions \(from -1\) must be at least 0"):
        RotaryEmbedding(4)(floats(2, 4), np.array([-1, 0]))
