"""`init.skip`: modules without memory; `Arena` and `flatten`: parameters in one aligned array."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.nn import (
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
    init,
)
from axone.nn.extend import Arena, flatten


class Own(Module):
    """A layer of a user, who knows nothing of `init.skip`."""

    def __init__(self) -> None:
        self.scale = Parameter(np.full((2, 3), 7.0, np.float16))
        init.normal(self.scale, rng=np.random.default_rng(0))


LAYERS: dict[str, Callable[[], Module]] = {
    "Linear": lambda: Linear(5, 3),
    "Embedding": lambda: Embedding(5, 3),
    "FeedForward": lambda: FeedForward(5, 3, dropout=0.1),
    "SwiGLU": lambda: SwiGLU(5, 3),
    "Head": lambda: Head(5, 3),
    "MultiHeadAttention": lambda: MultiHeadAttention(8, 2, rotary=RotaryEmbedding(4), qk_norm=True),
    "LayerNorm": lambda: LayerNorm(5),
    "RMSNorm": lambda: RMSNorm(5),
    "Transformer": lambda: Transformer(
        [TransformerBlock(MultiHeadAttention(8, 2), SwiGLU(8, 5), attention_norm=LayerNorm(8), mlp_norm=RMSNorm(8))],
        norm=LayerNorm(8, bias=False),
        position=Embedding(3, 8),
    ),
    "own": Own,
}


def address(array: np.ndarray[Any, Any]) -> int:
    return array.ctypes.data


def shapes(module: Module) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    return {name: (parameter.shape, parameter.dtype) for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_skip_builds_every_layer_without_memory(make: Callable[[], Module]) -> None:
    with init.skip():
        module = make()
    assert shapes(module) == shapes(make())
    for parameter in module.parameters():
        assert not any(parameter.data.strides)
        assert not parameter.data.flags.writeable
        assert not parameter.data.any()
        assert parameter.requires_grad


def test_skip_draws_nothing() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    with init.skip():
        Linear(3, 2, rng=rng)
        Embedding(3, 2, rng=rng)
        parameter = Parameter(np.empty((2, 3), np.float32))
        init.normal(parameter, rng=rng)
        init.truncated_normal(parameter, rng=rng)
        init.uniform(parameter, bound=1, rng=rng)
        init.xavier(parameter, rng=rng)
        init.kaiming(parameter, rng=rng)
        init.scaled_residual(parameter, num_layers=1, rng=rng)
        init.constant(parameter, 1.0)
    assert rng.bit_generator.state == untouched.bit_generator.state


def test_skip_builds_a_terabyte_of_weights() -> None:
    with init.skip():
        layer = Linear(1 << 20, 1 << 18)
        flat = flatten(layer.parameters())
    assert layer.num_parameters() == flat.size == (1 << 38) + (1 << 18)
    assert not any(flat.strides)


def test_skip_ends_with_its_context_and_nests() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), init.skip():
        raise RuntimeError("on purpose")
    assert Linear(2, 2).weight.data.flags.writeable
    with init.skip():
        with init.skip():
            pass
        assert not Linear(2, 2).weight.data.flags.writeable


def test_skip_is_local_to_a_thread() -> None:
    layers: list[Linear] = []
    with init.skip():
        thread = threading.Thread(target=lambda: layers.append(Linear(2, 2)))
        thread.start()
        thread.join()
    assert layers[0].weight.data.flags.writeable


def test_a_state_gives_memory_to_a_module_built_under_skip() -> None:
    source = Linear(3, 2)
    with init.skip():
        layer = Linear(3, 2)
    state = {name: array.astype(np.float64) for name, array in source.state_dict().items()}
    layer.load_state_dict(state)
    np.testing.assert_array_equal(layer.weight.data, source.weight.data)
    assert layer.weight.dtype == np.float32
    layer.weight.data[...] = 0
    assert state["weight"].any()


def test_astype_leaves_a_module_built_under_skip_without_memory() -> None:
    with init.skip():
        layer = Linear(3, 2)
    layer.astype(np.float64)
    assert layer.weight.dtype == np.float64
    assert not any(layer.weight.data.strides)


def test_drawing_into_a_parameter_without_memory_is_an_error() -> None:
    with init.skip():
        layer = Linear(3, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) was built under init\.skip\(\) and has no memory: give it"):
        init.normal(layer.weight, rng=np.random.default_rng(0))


@pytest.mark.parametrize("align", [1, 4, 64, 4096])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_arena_returns_aligned_arrays_that_do_not_overlap(align: int, dtype: Any) -> None:
    wanted = [(3, 5), (7,), (0, 4), (), (16,)]
    arena = Arena(wanted, dtype, align=align, allocate=lambda size, dtype: np.full(size, 9, dtype))
    assert address(arena.data) % max(align, 64) == 0
    taken = [arena.take(shape) for shape in wanted]
    for number, array in enumerate(taken):
        assert array.shape == wanted[number]
        assert address(array) % min(align, 8) == 0
        assert array.size == 0 or address(array) % align == 0
        array[...] = number + 1
    for number, array in enumerate(taken):
        assert (array == number + 1).all()
    assert arena.data.sum() == sum(
        (number + 1) * math.prod(shape) for number, shape in enumerate(wanted)
    )  # zeros between
    with pytest.raises(
        ValueError, match=r"an array of shape \(1,\) does not fit into the arena, which has \d+ elements"
    ):
        arena.take((1,))


def test_an_arena_without_gaps_has_the_size_of_its_arrays() -> None:
    assert Arena([(3, 5), (7,)], np.float32, align=1).data.size == 22
    assert Arena([(3, 5), (7,)], np.float32).data.size == 32


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_flatten_moves_parameters_and_keeps_values_and_gradients(make: Callable[[], Module]) -> None:
    module = make()
    before = {name: array.copy() for name, array in module.state_dict().items()}
    for parameter in module.parameters():
        parameter.grad = np.ones_like(parameter.data)
    flat = flatten(module.parameters())
    assert address(flat) % 64 == 0
    for name, parameter in module.named_parameters():
        np.testing.assert_array_equal(parameter.data, before[name])
        assert address(parameter.data) % 64 == 0
        assert np.shares_memory(parameter.data, flat)
        assert parameter.grad is not None
        assert parameter.grad.all()
    flat[...] = 5
    assert all((parameter.data == 5).all() for parameter in module.parameters())


def test_flatten_keeps_the_order_that_it_is_given() -> None:
    layer = Linear(2, 1)
    assert layer.bias is not None
    layer.weight.data[...], layer.bias.data[...] = [[1, 2]], 3
    np.testing.assert_array_equal(flatten([layer.bias, layer.weight], align=1), [3, 1, 2])


def test_flatten_uses_the_allocator_and_the_dtype() -> None:
    asked: list[tuple[int, np.dtype[Any]]] = []

    def zeros(size: int, dtype: np.dtype[Any]) -> Any:
        asked.append((size, dtype))
        return np.zeros(size, dtype)

    layer = Linear(8, 4)
    flat = flatten(layer.parameters(), dtype=np.float64, allocate=zeros)
    assert flat.dtype == layer.weight.dtype == np.float64
    assert asked == [(40 + 8, np.dtype(np.float64))]  # and one cache line to begin with one


def test_flatten_gives_memory_to_a_module_built_under_skip() -> None:
    with init.skip():
        layer = Linear(3, 2)
    flat = flatten(layer.parameters(), allocate=np.zeros)
    assert layer.weight.data.flags.writeable
    layer.weight.data[...] = 1
    assert flat.sum() == 6


def test_flatten_keeps_the_values_of_a_users_own_read_only_broadcast() -> None:
    scale, shift = Parameter(np.broadcast_to(np.float32(3), (4,))), Parameter(np.broadcast_to(np.float32(0), (2,)))
    flat = flatten([scale, shift], allocate=lambda size, dtype: np.full(size, 9, dtype), align=1)
    np.testing.assert_array_equal(flat, [3, 3, 3, 3, 0, 0])


def test_flatten_of_two_dtypes_is_an_error() -> None:
    with pytest.raises(TypeError, match="parameters of dtypes float32, float64 cannot share one array"):
        flatten([Tensor([1.0]), Tensor(np.ones(1))])
    assert flatten([]).size == 0


def test_astype_leaves_one_aligned_array() -> None:
    model = Sequential(Linear(5, 3), LayerNorm(3))
    values = {name: array.copy() for name, array in model.state_dict().items()}
    model.astype(np.float64)
    bases = {id(parameter.data.base) for parameter in model.parameters()}
    assert len(bases) == 1
    for name, parameter in model.named_parameters():
        assert parameter.dtype == np.float64
        assert address(parameter.data) % 64 == 0
        np.testing.assert_array_equal(parameter.data, values[name])
