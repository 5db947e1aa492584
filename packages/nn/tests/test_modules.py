"""Every public Module, one row each, through the contract of all modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import axone.nn
from axone.autograd import Tensor, relu
from axone.nn import (
    GELU,
    MLP,
    Dropout,
    Embedding,
    FeedForward,
    Head,
    LayerNorm,
    Linear,
    LoRALinear,
    Module,
    MultiHeadAttention,
    NgramEmbedding,
    ReLU,
    RMSNorm,
    RotaryEmbedding,
    Sequential,
    Sigmoid,
    SiLU,
    SwiGLU,
    Tanh,
    Transformer,
    TransformerBlock,
)

Shapes = dict[str, tuple[int, ...]]


def floats(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype))


def token_ids(*shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 7, shape)


@dataclass(frozen=True)
class Row:
    """A module, its inputs, and the expected output shape and parameters."""

    make: Callable[[np.random.Generator], Any]
    inputs: Callable[[Any], tuple[Any, ...]]
    output: tuple[int, ...]
    parameters: Shapes
    wrong: Any = None  # an input of a wrong shape
    error: str = ""


def vectors(*shape: int) -> Callable[[Any], tuple[Any, ...]]:
    return lambda dtype: (floats(*shape, dtype=dtype),)


def block(rng: np.random.Generator) -> TransformerBlock:
    attention = MultiHeadAttention(8, 2, dropout=0.1, rng=rng)
    mlp = FeedForward(8, 12, dropout=0.1, rng=rng)
    return TransformerBlock(attention, mlp, attention_norm=LayerNorm(8), mlp_norm=LayerNorm(8))


BLOCK: Shapes = {
    "attention_norm.weight": (8,), "attention_norm.bias": (8,),
    "attention.qkv_proj.weight": (24, 8), "attention.qkv_proj.bias": (24,),
    "attention.out_proj.weight": (8, 8), "attention.out_proj.bias": (8,),
    "mlp_norm.weight": (8,), "mlp_norm.bias": (8,),
    "mlp.up_proj.weight": (12, 8), "mlp.up_proj.bias": (12,), "mlp.down_proj.weight": (8, 12), "mlp.down_proj.bias": (8,),
}  # fmt: skip


def lora(rng: np.random.Generator) -> LoRALinear:
    layer = LoRALinear(Linear(8, 3, rng=rng), 2, alpha=3, dropout=0.1, rng=rng)
    layer.lora_B.data[...] = rng.standard_normal((3, 2))  # zeros give lora_A no gradient
    return layer


TABLE: dict[str, Row] = {
    "Dropout": Row(lambda rng: Dropout(0.5, rng=rng), vectors(3, 8), (3, 8), {}),
    "Embedding": Row(
        lambda rng: Embedding(7, 4, rng=rng), lambda _: (token_ids(3, 5),), (3, 5, 4), {"weight": (7, 4)},
        np.array([7]), "ids must be from 0 to 6, got 7 to 7",
    ),
    "Head": Row(
        lambda rng: Head(8, 4, rng=rng), vectors(2, 5, 8), (2, 5, 4),
        {"query.weight": (4, 8), "key.weight": (4, 8), "value.weight": (4, 8)},
        floats(5, 8), r"Head\(8, 4\) needs an input of shape \(B, T, 8\), got \(5, 8\)",
    ),
    "NgramEmbedding": Row(
        lambda _: NgramEmbedding(7, 4, [49, 5]), lambda _: (token_ids(3, 5),), (3, 5, 4),
        {"tables.0": (49, 4), "tables.1": (5, 4)},
    ),
    "LayerNorm": Row(
        lambda _: LayerNorm(8), vectors(3, 8), (3, 8), {"weight": (8,), "bias": (8,)},
        floats(3, 7), r"LayerNorm\(8\) needs an input of shape \(\.\.\., 8\), got \(3, 7\)",
    ),
    "Linear": Row(
        lambda rng: Linear(8, 3, rng=rng), vectors(2, 5, 8), (2, 5, 3), {"weight": (3, 8), "bias": (3,)},
        floats(3, 7), r"Linear\(8, 3\) needs an input of shape \(\.\.\., 8\), got \(3, 7\)",
    ),
    "LoRALinear": Row(
        lora, vectors(2, 5, 8), (2, 5, 3), {"weight": (3, 8), "bias": (3,), "lora_A": (2, 8), "lora_B": (3, 2)},
        floats(3, 7), r"LoRALinear\(8, 3, rank=2, alpha=3\) needs an input of shape \(\.\.\., 8\), got \(3, 7\)",
    ),
    "FeedForward": Row(
        lambda rng: FeedForward(8, 12, activation="silu", dropout=0.1, rng=rng), vectors(2, 5, 8), (2, 5, 8),
        {"up_proj.weight": (12, 8), "up_proj.bias": (12,), "down_proj.weight": (8, 12), "down_proj.bias": (8,)},
        floats(7), r"FeedForward\(8, 12, activation='silu'\) needs an input of shape \(\.\.\., 8\), got \(7,\)",
    ),
    "GELU": Row(lambda _: GELU(), vectors(3, 8), (3, 8), {}),
    "MLP": Row(
        lambda rng: MLP(8, [4, 3], rng=rng), vectors(2, 5, 8), (2, 5, 3),
        {"layers.0.weight": (4, 8), "layers.0.bias": (4,), "layers.1.weight": (3, 4), "layers.1.bias": (3,)},
        floats(3, 7), r"Linear\(8, 4\) needs an input of shape",
    ),
    "MultiHeadAttention": Row(
        lambda rng: MultiHeadAttention(8, 4, num_kv_heads=2, rotary=RotaryEmbedding(6), qk_norm=True, head_dim=6, rng=rng),
        vectors(2, 5, 8), (2, 5, 8),
        {
            "qkv_proj.weight": (48, 8), "qkv_proj.bias": (48,), "out_proj.weight": (8, 24), "out_proj.bias": (8,),
            "q_norm.weight": (6,), "k_norm.weight": (6,),
        },
        floats(2, 5, 7), r"MultiHeadAttention\(8, num_heads=4, num_kv_heads=2\) needs an input of shape \(B, T, 8\), got",
    ),
    "RMSNorm": Row(
        lambda _: RMSNorm(8), vectors(3, 8), (3, 8), {"weight": (8,)},
        floats(3, 7), r"RMSNorm\(8\) needs an input of shape \(\.\.\., 8\), got \(3, 7\)",
    ),
    "ReLU": Row(lambda _: ReLU(), vectors(3, 8), (3, 8), {}),
    "RotaryEmbedding": Row(
        lambda _: RotaryEmbedding(6), vectors(2, 4, 5, 6), (2, 4, 5, 6), {},
        floats(5, 4), r"RotaryEmbedding\(6, theta=10000\) needs an input of shape \(\.\.\., T, 6\), got \(5, 4\)",
    ),
    "Sequential": Row(
        lambda rng: Sequential(Linear(8, 4, rng=rng), relu, Linear(4, 3, bias=False, rng=rng)), vectors(5, 8), (5, 3),
        {"layers.0.weight": (4, 8), "layers.0.bias": (4,), "layers.2.weight": (3, 4)},
        floats(7), r"Linear\(8, 4\) needs an input of shape",
    ),
    "SiLU": Row(lambda _: SiLU(), vectors(3, 8), (3, 8), {}),
    "Sigmoid": Row(lambda _: Sigmoid(), vectors(3, 8), (3, 8), {}),
    "SwiGLU": Row(
        lambda rng: SwiGLU(8, 12, rng=rng), vectors(2, 5, 8), (2, 5, 8),
        {"gate_proj.weight": (12, 8), "up_proj.weight": (12, 8), "down_proj.weight": (8, 12)},
        floats(7), r"SwiGLU\(8, 12\) needs an input of shape \(\.\.\., 8\), got \(7,\)",
    ),
    "Tanh": Row(lambda _: Tanh(), vectors(3, 8), (3, 8), {}),
    "Transformer": Row(
        lambda rng: Transformer([block(rng), block(rng)], norm=RMSNorm(8), position=Embedding(5, 8, rng=rng)),
        vectors(2, 5, 8), (2, 5, 8),
        {
            "position.weight": (5, 8), **{f"blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()},
            "norm.weight": (8,),
        },
        floats(2, 6, 8), "position 5 must be below 5, the number of learned positions: shorten the input",
    ),
    "TransformerBlock": Row(
        block, vectors(2, 5, 8), (2, 5, 8), BLOCK,
        floats(2, 5, 7), r"LayerNorm\(8\) needs an input of shape",
    ),
}  # fmt: skip

ROWS = [pytest.param(row, id=name) for name, row in TABLE.items()]


def make(row: Row, seed: int = 0) -> Any:
    return row.make(np.random.default_rng(seed))


def call(module: Any, row: Row, dtype: Any = np.float32) -> Tensor:
    return module(*row.inputs(dtype))  # type: ignore[no-any-return]  # modules of any kind


def test_every_public_module_has_a_row() -> None:
    public = {
        name
        for name in axone.nn.__all__
        if isinstance(kind := getattr(axone.nn, name), type) and issubclass(kind, Module)
    }
    without_training = {"Int8Embedding", "Int8Linear"}  # test_int8.py
    assert public - {"Module"} - without_training == set(TABLE)


@pytest.mark.parametrize("row", ROWS)
def test_output_shape_and_dtype(row: Row) -> None:
    out = call(make(row), row)
    assert out.shape == row.output
    assert out.dtype == np.float32


@pytest.mark.parametrize("row", ROWS)
def test_parameters_have_their_names_shapes_and_count(row: Row) -> None:
    module = make(row)
    assert {name: parameter.shape for name, parameter in module.named_parameters()} == row.parameters
    assert module.num_parameters() == sum(int(np.prod(shape)) for shape in row.parameters.values())
    assert all(parameter.dtype == np.float32 for parameter in module.parameters())


@pytest.mark.parametrize("row", ROWS)
def test_every_parameter_gets_a_gradient(row: Row) -> None:
    module = make(row)
    out = call(module, row)
    if row.parameters:
        out.backward(np.ones_like(out.data) + 0.1 * out.data)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert np.abs(parameter.grad).sum() > 0, name
    module.zero_grad()
    assert not any(np.any(parameter.grad) for parameter in module.parameters())


@pytest.mark.parametrize("row", ROWS)
def test_inference_equals_the_call(row: Row) -> None:
    module = make(row).eval().astype(np.float64)
    (x,) = row.inputs(np.float64)
    if not isinstance(x, Tensor):
        return  # ids are not rows of floating-point numbers
    forward = module.inference()
    np.testing.assert_allclose(forward(x.data), module(x).data, atol=1e-12)
    if r"\.\.\., 8" in row.error:  # any number of axes
        vector = x.data.reshape(-1, 8)[0]
        np.testing.assert_allclose(forward(vector), module(Tensor(vector)).data, atol=1e-12)


@pytest.mark.parametrize("row", ROWS)
def test_the_same_rng_gives_the_same_output(row: Row) -> None:
    np.testing.assert_array_equal(call(make(row), row).data, call(make(row), row).data)


@pytest.mark.parametrize("row", ROWS)
def test_loading_a_state_copies_a_module(row: Row) -> None:
    module, other = make(row).eval(), make(row, seed=1).eval()
    before = {name: parameter.data for name, parameter in other.named_parameters()}
    other.load_state_dict({name: array.copy() for name, array in module.state_dict().items()})
    np.testing.assert_array_equal(call(other, row).data, call(module, row).data)
    for name, parameter in other.named_parameters():
        assert parameter.data is before[name], f"{name} was not filled in place"


@pytest.mark.parametrize("row", ROWS)
def test_evaluation_is_deterministic(row: Row) -> None:
    module = make(row)
    assert module.training
    module.eval()
    assert not any(part.training for part in module.modules())
    np.testing.assert_array_equal(call(module, row).data, call(module, row).data)
    assert all(part.training for part in module.train().modules())


@pytest.mark.parametrize("row", ROWS)
def test_a_replica_shares_parameter_arrays_and_nothing_else(row: Row) -> None:
    module = make(row)
    twin = module.replica()
    for one, other in zip(module.parameters(), twin.parameters(), strict=True):
        assert one is not other
        assert one.data is other.data
    for (path, one), (same, other) in zip(module.named_modules(), twin.named_modules(), strict=True):
        assert path == same
        assert one is not other
    out = call(twin, row)
    if row.parameters:
        out.backward(np.ones_like(out.data))
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("row", ROWS)
def test_astype_float64_computes_in_float64(row: Row) -> None:
    module = make(row).eval()
    single = call(module, row).data
    double = call(module.astype(np.float64), row, np.float64).data
    assert double.dtype == np.float64 or not row.parameters
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [p for p in ROWS if TABLE[str(p.id)].error])
def test_a_wrong_input_shape_is_an_error_that_names_the_layer(row: Row) -> None:
    with pytest.raises((ValueError, IndexError), match=row.error):
        make(row)(row.wrong)


@pytest.mark.parametrize("row", ROWS)
def test_the_repr_names_the_classes(row: Row) -> None:
    module = make(row)
    assert repr(module).startswith(type(module).__name__)
    assert all(type(part).__name__ in repr(module) for part in module.modules())
