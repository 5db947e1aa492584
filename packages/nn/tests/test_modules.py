"""Every public Module, one row each, through the contract that all modules keep; and the walk over their parameters."""

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
    Dropout,
    Embedding,
    FeedForward,
    Head,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
    RMSNorm,
    RotaryEmbedding,
    Sequential,
    SwiGLU,
    Transformer,
    TransformerBlock,
    reseed_dropout,
)

Shapes = dict[str, tuple[int, ...]]


def floats(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype))


def token_ids(*shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 7, shape)


@dataclass(frozen=True)
class Row:
    """How to make a module, what to give it, and what must come of it."""

    make: Callable[[np.random.Generator], Any]
    inputs: Callable[[Any], tuple[Any, ...]]
    output: tuple[int, ...]
    parameters: Shapes
    wrong: Any = None  # an input that does not fit
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

TABLE: dict[str, Row] = {
    "Dropout": Row(lambda rng: Dropout(0.5, rng=rng), vectors(3, 8), (3, 8), {}),
    "Embedding": Row(
        lambda rng: Embedding(7, 4, rng=rng), lambda _: (token_ids(3, 5),), (3, 5, 4), {"weight": (7, 4)},
        np.array([7]), "embedding needs ids from 0 to 6, and these go from 7 to 7",
    ),
    "Head": Row(
        lambda rng: Head(8, 4, rng=rng), vectors(2, 5, 8), (2, 5, 4),
        {"query.weight": (4, 8), "key.weight": (4, 8), "value.weight": (4, 8)},
        floats(5, 8), r"Head\(8, 4\) needs an input of shape \(B, T, 8\), and got one of shape \(5, 8\)",
    ),
    "LayerNorm": Row(
        lambda _: LayerNorm(8), vectors(3, 8), (3, 8), {"weight": (8,), "bias": (8,)},
        floats(3, 7), r"LayerNorm\(8\) needs an input of shape \(\.\.\., 8\), and got one of shape \(3, 7\)",
    ),
    "Linear": Row(
        lambda rng: Linear(8, 3, rng=rng), vectors(2, 5, 8), (2, 5, 3), {"weight": (3, 8), "bias": (3,)},
        floats(3, 7), r"Linear\(8, 3\) needs an input of shape \(\.\.\., 8\), and got one of shape \(3, 7\)",
    ),
    "FeedForward": Row(
        lambda rng: FeedForward(8, 12, activation="silu", dropout=0.1, rng=rng), vectors(2, 5, 8), (2, 5, 8),
        {"up_proj.weight": (12, 8), "up_proj.bias": (12,), "down_proj.weight": (8, 12), "down_proj.bias": (8,)},
        floats(7), r"FeedForward\(8, 12, activation='silu'\) needs an input of shape \(\.\.\., 8\), and got one of shape \(7,\)",
    ),
    "MultiHeadAttention": Row(
        lambda rng: MultiHeadAttention(8, 4, num_kv_heads=2, rotary=RotaryEmbedding(6), qk_norm=True, head_dim=6, rng=rng),
        vectors(2, 5, 8), (2, 5, 8),
        {
            "qkv_proj.weight": (48, 8), "qkv_proj.bias": (48,), "out_proj.weight": (8, 24), "out_proj.bias": (8,),
            "q_norm.weight": (6,), "k_norm.weight": (6,),
        },
        floats(2, 5, 7), r"MultiHeadAttention\(8, num_heads=4, num_kv_heads=2\) needs an input of shape \(B, T, 8\), and got",
    ),
    "RMSNorm": Row(
        lambda _: RMSNorm(8), vectors(3, 8), (3, 8), {"weight": (8,)},
        floats(3, 7), r"RMSNorm\(8\) needs an input of shape \(\.\.\., 8\), and got one of shape \(3, 7\)",
    ),
    "RotaryEmbedding": Row(
        lambda _: RotaryEmbedding(6), vectors(2, 4, 5, 6), (2, 4, 5, 6), {},
        floats(5, 4), r"RotaryEmbedding\(6, theta=10000\) needs an input of shape \(\.\.\., T, 6\), and got one of shape \(5, 4\)",
    ),
    "Sequential": Row(
        lambda rng: Sequential(Linear(8, 4, rng=rng), relu, Linear(4, 3, bias=False, rng=rng)), vectors(5, 8), (5, 3),
        {"layers.0.weight": (4, 8), "layers.0.bias": (4,), "layers.2.weight": (3, 4)},
        floats(7), r"Linear\(8, 4\) needs an input of shape",
    ),
    "SwiGLU": Row(
        lambda rng: SwiGLU(8, 12, rng=rng), vectors(2, 5, 8), (2, 5, 8),
        {"gate_proj.weight": (12, 8), "up_proj.weight": (12, 8), "down_proj.weight": (8, 12)},
        floats(7), r"SwiGLU\(8, 12\) needs an input of shape \(\.\.\., 8\), and got one of shape \(7,\)",
    ),
    "Transformer": Row(
        lambda rng: Transformer([block(rng), block(rng)], norm=RMSNorm(8), position=Embedding(5, 8, rng=rng)),
        vectors(2, 5, 8), (2, 5, 8),
        {
            "position.weight": (5, 8), **{f"blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()},
            "norm.weight": (8,),
        },
        floats(2, 6, 8), "this Transformer knows 5 positions, and 6 are needed: shorten the input",
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
    assert public - {"Module"} == set(TABLE)


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
        assert parameter.grad is not None, name
        assert np.abs(parameter.grad).sum() > 0, name
    module.zero_grad()
    assert not any(np.any(parameter.grad) for parameter in module.parameters())


@pytest.mark.parametrize("row", ROWS)
def test_inference_equals_the_call(row: Row) -> None:
    module = make(row).eval().astype(np.float64)
    (x,) = row.inputs(np.float64)
    if not isinstance(x, Tensor):
        return  # ids are no rows of floating-point numbers
    forward = module.inference()
    np.testing.assert_allclose(forward(x.data), module(x).data, atol=1e-12)
    if r"\.\.\., 8" in row.error:  # any number of axes
        vector = x.data.reshape(-1, 8)[0]
        np.testing.assert_allclose(forward(vector), module(Tensor(vector)).data, atol=1e-12)


@pytest.mark.parametrize("row", ROWS)
def test_the_same_rng_gives_the_same_output(row: Row) -> None:
    np.testing.assert_array_equal(call(make(row), row).data, call(make(row), row).data)


@pytest.mark.parametrize("row", ROWS)
def test_a_state_makes_another_module_equal(row: Row) -> None:
    module, other = make(row).eval(), make(row, seed=1).eval()
    before = {name: parameter.data for name, parameter in other.named_parameters()}
    other.load_state_dict({name: array.copy() for name, array in module.state_dict().items()})
    np.testing.assert_array_equal(call(other, row).data, call(module, row).data)
    for name, parameter in other.named_parameters():
        assert parameter.data is before[name], f"{name} was not filled in place"


@pytest.mark.parametrize("row", ROWS)
def test_evaluation_repeats_itself(row: Row) -> None:
    module = make(row)
    assert module.training
    module.eval()
    assert not any(part.training for part in module.modules())
    np.testing.assert_array_equal(call(module, row).data, call(module, row).data)
    assert all(part.training for part in module.train().modules())


@pytest.mark.parametrize("row", ROWS)
def test_a_replica_shares_values_and_nothing_else(row: Row) -> None:
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
def test_float64_is_kept(row: Row) -> None:
    module = make(row).eval()
    single = call(module, row).data
    double = call(module.astype(np.float64), row, np.float64).data
    assert double.dtype == np.float64 or not row.parameters
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [p for p in ROWS if TABLE[str(p.id)].error])
def test_a_shape_that_does_not_fit_is_named(row: Row) -> None:
    with pytest.raises((ValueError, IndexError), match=row.error):
        make(row)(row.wrong)


@pytest.mark.parametrize("row", ROWS)
def test_it_says_what_it_is(row: Row) -> None:
    module = make(row)
    assert repr(module).startswith(type(module).__name__)
    assert all(type(part).__name__ in repr(module) for part in module.modules())


class Tied(Module):
    """A head that shares the table of an embedding, and parts in a dict."""

    def __init__(self) -> None:
        self.embedding = Embedding(5, 4)
        head = Linear(4, 5, bias=False)
        head.weight = self.embedding.weight
        self.parts = {"head": head, "scale": Parameter([2.0])}
        self.again = self.embedding.weight
        self.parent = self  # a circle


def test_tied_parameters_count_once() -> None:
    model = Tied()
    assert list(model.state_dict()) == ["embedding.weight", "parts.scale"]
    assert model.num_parameters() == 21
    twin = model.replica()
    assert twin.again is twin.embedding.weight
    assert twin.parent is twin


def test_a_replica_keeps_what_is_frozen() -> None:
    layer = Linear(2, 2)
    layer.weight.requires_grad = False
    assert [parameter.requires_grad for parameter in layer.replica().parameters()] == [False, True]


def test_replicas_draw_masks_of_their_own() -> None:
    layer = Dropout(0.5, rng=np.random.default_rng(0))
    x = Tensor(np.ones(100, np.float32))
    masks = [module(x).data for module in (layer, layer.replica(), layer.replica())]
    assert not any(np.array_equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_masks_follow_from_the_key() -> None:
    model, x = Sequential(Dropout(0.5), Dropout(0.5)), Tensor(np.ones(100, np.float32))
    outputs = []
    for key in ((1, 2, 3), (1, 2, 3), (1, 2, 4)):
        reseed_dropout(model, key)
        outputs.append(model(x).data)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_a_state_is_loaded_all_or_nothing_and_every_fault_is_told() -> None:
    layer = Linear(2, 3)
    before = layer.weight.data.copy()
    with pytest.raises(ValueError, match="the state does not fit this Linear") as caught:
        layer.load_state_dict({"weight": np.ones((2, 3)), "scale": np.ones(3)})
    assert str(caught.value).split(": ")[1].split("; ") == [
        "weight must have shape (3, 2) and has (2, 3)", "bias is missing", "scale is not expected",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="bias must hold real numbers and holds complex128"):
        layer.load_state_dict({"weight": np.ones((3, 2)), "bias": np.ones(3, np.complex128)})
    np.testing.assert_array_equal(layer.weight.data, before)


def test_a_partial_state_can_be_loaded_on_request() -> None:
    layer = Linear(2, 3)
    layer.load_state_dict({"bias": np.ones(3), "scale": np.ones(3)}, strict=False)
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias.data, np.ones(3))
    with pytest.raises(ValueError, match="weight must have shape"):
        layer.load_state_dict({"weight": np.ones(3)}, strict=False)


def test_the_tree_is_shown() -> None:
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


def test_train_takes_a_mode() -> None:
    model = Sequential(Dropout(0.5))
    assert model.train(mode=False) is model
    assert [module.training for module in model.modules()] == [False, False]
    assert [module.training for module in model.train(mode=True).modules()] == [True, True]


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu", "relu2"])
def test_an_mlp_bends_as_asked(activation: Any) -> None:
    mlp = FeedForward(3, 3, activation=activation, bias=False)
    mlp.up_proj.weight.data[...] = mlp.down_proj.weight.data[...] = np.eye(3)
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    expected = {"gelu": x * (1 + tanh) / 2, "silu": x / (1 + np.exp(-x)), "relu": x * (x > 0), "relu2": x**2 * (x > 0)}
    np.testing.assert_allclose(mlp(Tensor(x)).data, expected[activation], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Linear(-1, 2), "Linear needs in_features of at least 0, and it is -1"),
        (lambda: Linear(1, "2"), "Linear needs a whole number as out_features, and it is '2'"),  # type: ignore[arg-type]  # on purpose
        (lambda: Embedding(2.0, 3), "Embedding needs a whole number as num_embeddings, and it is 2.0"),  # type: ignore[arg-type]  # on purpose
        (lambda: LayerNorm(-3), "LayerNorm needs dim of at least 0, and it is -3"),
        (lambda: RMSNorm((3,)), r"RMSNorm needs a whole number as dim, and it is \(3,\)"),  # type: ignore[arg-type]  # on purpose
        (lambda: MultiHeadAttention(8, 0), "needs num_heads and num_kv_heads of at least 1, and they are 0 and 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make: Callable[[], Module], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        make()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="FeedForward needs an activation of gelu, silu, relu, relu2, and it is 'erf'"):
        FeedForward(2, 2, activation="erf")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"Dropout needs p in \[0, 1\), and it is 1"):
        Dropout(1.0)
    with pytest.raises(ValueError, match="RotaryEmbedding needs an even head_dim, and it is 3"):
        RotaryEmbedding(3)
    with pytest.raises(ValueError, match="this Transformer needs 1 caches, one for each block: got 0"):
        Transformer([block(np.random.default_rng(0))], norm=LayerNorm(8))(floats(1, 2, 8), caches=[])
    with pytest.raises(ValueError, match="positions count from 0, and the lowest of these is -1"):
        RotaryEmbedding(4)(floats(2, 4), np.array([-1, 0]))
