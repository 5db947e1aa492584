"""Inference on plain arrays: each layer's arithmetic without a tape equals its call, with and without a cache."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.nn import (
    Embedding,
    FeedForward,
    KVCache,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    Transformer,
    TransformerBlock,
)
from axone.nn.extend import (
    CachedModule,
    DecodeContext,
    Forward,
    RowCache,
    Weight,
    dense_product,
    few_positions,
    single_position,
)

Array = NDArray[Any]
BOUNDS = {np.float32: 2e-5, np.float64: 1e-12}


def random(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def shaken(module: Any, dtype: Any = np.float64) -> Any:
    """Return a module in evaluation mode whose every parameter matters, biases and gains too."""
    rng = np.random.default_rng(3)
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    return module.astype(dtype).eval()


LAYERS: dict[str, Callable[[], Module]] = {
    "Linear": lambda: Linear(8, 8),
    "Linear without bias": lambda: Linear(8, 8, bias=False),
    "LayerNorm": lambda: LayerNorm(8, eps=0.01),
    "LayerNorm without bias": lambda: LayerNorm(8, bias=False),
    "RMSNorm": lambda: RMSNorm(8, eps=0.01),
    "GELU": lambda: FeedForward(8, 12, dropout=0.5),
    "SiLU": lambda: FeedForward(8, 12, activation="silu", bias=False),
    "ReLU": lambda: FeedForward(8, 12, activation="relu"),
    "ReLU squared": lambda: FeedForward(8, 12, activation="relu2"),
    "SwiGLU": lambda: SwiGLU(8, 12, dropout=0.5),
    "SwiGLU with biases": lambda: SwiGLU(8, 12, bias=True),
}


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", LAYERS)
def test_inference_equals_the_call_for_rows_and_vectors(name: str, dtype: Any) -> None:
    layer = shaken(LAYERS[name](), dtype)
    forward = layer.inference()
    for shape in ((8,), (1, 8), (5, 8), (70, 8)):
        x = random(*shape, dtype=dtype)
        before = x.copy()
        y = forward(x)
        np.testing.assert_array_equal(x, before)
        assert y.dtype == dtype
        assert not np.shares_memory(x, y)
        np.testing.assert_allclose(y, layer(Tensor(x)).data, atol=BOUNDS[dtype], err_msg=str(shape))


def halves(weight: Weight, bias: Array | None) -> Forward:
    """Compute a product in two halves, as two ranks would."""
    assert isinstance(weight, np.ndarray)
    cut = len(weight) // 2

    def forward(x: Array) -> Array:
        y = np.concatenate([x @ weight[:cut].T, x @ weight[cut:].T], axis=-1)
        return y if bias is None else y + bias

    return forward


@pytest.mark.parametrize(("name", "products"), [("Linear", 1), ("GELU", 2), ("SwiGLU", 3), ("RMSNorm", 0)])
def test_every_product_is_computed_as_dense_says(name: str, products: int) -> None:
    layer, calls = shaken(LAYERS[name]()), []

    def dense(weight: Array, bias: Array | None) -> Forward:
        calls.append(weight.shape)
        return halves(weight, bias)

    x = random(5, 8)
    np.testing.assert_allclose(layer.inference(dense)(x), layer(Tensor(x)).data, atol=1e-12)
    assert len(calls) == products


class Doubled(Linear):
    """A subclass that overrides the call alone."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class Shifted(Doubled):
    """A subclass that overrides both."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) + 1.0

    def inference(self, dense: Any = dense_product) -> Forward:
        forward = Linear.inference(self, dense)
        return lambda x: forward(x) * 2.0 + 1.0


class Named(Linear):
    """A subclass that overrides neither."""


class Negation:
    """A class that is not a module, and overrides the call if it comes first."""

    def __call__(self, x: Tensor) -> Tensor:
        return -x


class Negated(Negation, Linear):
    pass


@pytest.mark.parametrize("kind", [Doubled, Shifted, Named, Negated])
def test_a_redefined_call_is_never_computed_in_the_old_way(kind: type[Linear]) -> None:
    layer, x = kind(8, 8, rng=np.random.default_rng(0)), random(3, 8, dtype=np.float32)
    np.testing.assert_allclose(layer.inference()(x), layer(Tensor(x)).data, atol=1e-6)
    assert (kind.inference is Linear.inference) == (kind is Named)


def test_a_layer_in_a_layer_keeps_its_own_call() -> None:
    layer, x = shaken(FeedForward(8, 12)), random(3, 8)
    layer.up_proj = shaken(Doubled(8, 12))
    np.testing.assert_allclose(layer.inference()(x), layer(Tensor(x)).data, atol=1e-12)


# With a cache


def attention(**options: Any) -> MultiHeadAttention:
    if options.pop("rotary", False):
        options["rotary"] = RotaryEmbedding(4)
    return shaken(MultiHeadAttention(16, 4, head_dim=4, rng=np.random.default_rng(0), **options))  # type: ignore[no-any-return]


ATTENTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False, "num_kv_heads": 2},
    {"num_kv_heads": 1, "rotary": True},
    {"rotary": True, "qk_norm": True, "num_kv_heads": 2, "scale": 0.3},
    {"qkv_bias": False, "scale": 1.0},
]


def decode(forward: Any, x: Array, cuts: list[int], make: Callable[[], Any]) -> Array:
    """Return the outputs of runs of positions, read one after the other; single ones as vectors."""
    caches, outputs, starts = make(), [], [0, *cuts]
    for start, stop in zip(starts, [*cuts, len(x)]):
        rows = x[start:stop].copy()
        context = DecodeContext(1, np.arange(start, stop))
        y = forward(rows[0], caches, single_position(start)) if stop - start == 1 else forward(rows, caches, context)
        outputs.append(y.reshape(stop - start, -1))
    return np.concatenate(outputs)


@pytest.mark.parametrize("row_major", [False, True])
@pytest.mark.parametrize("options", ATTENTIONS, ids=str)
def test_cached_inference_equals_the_call(options: dict[str, Any], row_major: bool) -> None:
    layer, x = attention(**dict(options)), random(12, 16)
    whole = layer(Tensor(x[None])).data[0]
    K = layer.num_kv_heads

    def make() -> KVCache:
        return RowCache(K, 12, 4, dtype=np.float64) if row_major else KVCache(1, K, 12, 4, dtype=np.float64)

    for cuts in ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [5, 6, 10], []):
        for dense in (dense_product, halves):
            np.testing.assert_allclose(decode(layer.cached_inference(dense), x, cuts, make), whole, atol=1e-12)


@pytest.mark.parametrize("options", ATTENTIONS, ids=str)
def test_a_padded_batch_is_computed_as_each_sequence_alone(options: dict[str, Any]) -> None:
    layer = attention(**dict(options))
    x, starts = random(2, 7, 16), np.array([[3], [0]])
    context = DecodeContext(2, np.maximum(np.arange(7) - starts, 0), np.arange(7) >= starts)
    caches = [KVCache(2, layer.num_kv_heads, 8, 4, dtype=np.float64) for _ in range(2)]
    rows = x.reshape(14, 16)
    out = layer.cached_inference()(rows.copy(), caches[0], context).reshape(2, 7, 16)
    last = layer.cached_inference()(rows.copy(), caches[1], context._replace(last_only=True))
    np.testing.assert_allclose(last, out[:, -1], atol=1e-12)
    next_x, next_context = random(2, 16, seed=1), DecodeContext(2, 7 - starts, np.arange(8) >= starts)
    following = layer.cached_inference()(next_x.copy(), caches[0], next_context)
    for row, start in enumerate((3, 0)):
        alone = layer(Tensor(np.concatenate([x[row, start:], next_x[[row]]])[None])).data[0]
        np.testing.assert_allclose(out[row, start:], alone[:-1], atol=1e-12)
        np.testing.assert_allclose(following[row], alone[-1], atol=1e-12)


def test_scores_beyond_the_range_of_exponentials_are_shifted() -> None:
    layer, x = attention(), random(9, 16)
    layer.qkv_proj.weight.data *= 40
    whole = layer(Tensor(x[None])).data[0]
    for make in (lambda: RowCache(4, 9, 4, dtype=np.float64), lambda: KVCache(1, 4, 9, 4, dtype=np.float64)):
        np.testing.assert_allclose(decode(layer.cached_inference(), x, list(range(1, 9)), make), whole, atol=1e-9)


def test_some_heads_compute_their_part() -> None:
    layer, x = attention(num_kv_heads=2, rotary=True), random(6, 16)
    qkv = layer.qkv_proj.inference()(x)
    context = DecodeContext(1, np.arange(6))
    whole = layer.heads_inference(2)(qkv.copy(), KVCache(1, 2, 6, 4, dtype=np.float64), context)
    for head in range(2):
        rows = layer.qkv_rows(slice(head, head + 1))
        part = np.concatenate([qkv[:, run] for run in rows], axis=1)
        out = layer.heads_inference(1)(part, KVCache(1, 1, 6, 4, dtype=np.float64), context)
        np.testing.assert_allclose(out, whole[:, rows[0]], atol=1e-12)


@pytest.mark.parametrize("options", ATTENTIONS, ids=str)
def test_few_positions_get_the_bits_that_each_gets_alone(options: dict[str, Any]) -> None:
    layer = shaken(attention(**options), np.float32)
    K = layer.num_kv_heads
    heads, qkv = layer.heads_inference(K), random(40, 4 * (4 + 2 * K), dtype=np.float32)
    alone, together = (KVCache(1, K, 40, 4) for _ in range(2))
    singles = [heads(row.copy(), alone, single_position(at)) for at, row in enumerate(qkv)]
    cuts = pairwise((0, 2, 3, 9, 24, 40))
    runs = [heads(qkv[start:stop].copy(), together, few_positions(start, stop - start)) for start, stop in cuts]
    np.testing.assert_array_equal(np.concatenate(runs), singles)


class Louder(MultiHeadAttention):
    """A subclass that overrides the call alone."""

    def __call__(self, x: Tensor, **options: Any) -> Any:
        return super().__call__(x, **options) * 2.0


class Same(MultiHeadAttention):
    """A subclass that overrides nothing."""


def function(x: Tensor, **options: Any) -> Tensor:
    """Attention that is not a module: the sum of all earlier positions, from the cache."""
    cache, B, T, C = options["cache"], *x.shape
    keys, _ = cache.append(x.data.reshape(B, T, 4, C // 4).swapaxes(1, 2), np.zeros((B, 4, T, C // 4)))
    sums = np.cumsum(keys, axis=2)[:, :, -T:].swapaxes(1, 2).reshape(B, T, C)
    return Tensor(sums)


class Parallel(TransformerBlock):
    """A block that adds both branches at once."""

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        return x + self.attention(self.attention_norm(x), **options) + self.mlp(self.mlp_norm(x))


class Halved(Transformer):
    """A Transformer that overrides the call alone."""

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        return super().__call__(x, **options) * 0.5


def transformer(kind: str) -> Transformer:
    rng = np.random.default_rng(0)
    rotary = RotaryEmbedding(4) if kind == "rotary" else None

    def block() -> TransformerBlock:
        layer: Any = function if kind == "function" else MultiHeadAttention(16, 4, rotary=rotary, rng=rng)
        if kind == "louder":
            layer = Louder(16, 4, rng=rng)
        mlp = Linear(16, 16, rng=rng) if kind == "parallel" else FeedForward(16, 24, rng=rng)
        block_kind = Parallel if kind == "parallel" else TransformerBlock
        return block_kind(layer, mlp, attention_norm=LayerNorm(16), mlp_norm=RMSNorm(16))

    position = None if kind == "rotary" else Embedding(12, 16, rng=rng)
    made = (Halved if kind == "halved" else Transformer)([block(), block()], norm=LayerNorm(16), position=position)
    return shaken(made)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["learned", "rotary", "louder", "function", "parallel", "halved"])
def test_a_transformer_reads_run_by_run_what_it_reads_at_once(kind: str) -> None:
    model, x = transformer(kind), random(12, 16)

    def make() -> list[KVCache]:
        return [KVCache(1, 4, 12, 4, dtype=np.float64) for _ in model.blocks]

    with no_grad():
        whole = model(Tensor(x[None]), caches=make()).data[0]
    forward = model.cached_inference()
    for cuts in ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [5, 6, 10], []):
        np.testing.assert_allclose(decode(forward, x, cuts, make), whole, atol=1e-12)
    caches = make()
    np.testing.assert_allclose(
        forward(x[:7].copy(), caches, DecodeContext(1, np.arange(7), None, last_only=True)), whole[6], atol=1e-12
    )
    twice = np.concatenate([x, x[::-1]])
    both = [KVCache(2, 4, 12, 4, dtype=np.float64) for _ in model.blocks]
    out = forward(twice, both, DecodeContext(2, np.arange(12), None, last_only=True))
    np.testing.assert_allclose(out[0], whole[-1], atol=1e-12)
    assert out.shape == (2, 16)


def test_layers_that_override_the_call_alone_are_called() -> None:
    assert Louder.cached_inference is CachedModule.cached_inference
    assert Parallel.cached_inference is CachedModule.cached_inference
    assert Halved.cached_inference is not Transformer.cached_inference
    assert Same.cached_inference is MultiHeadAttention.cached_inference


def test_single_positions_are_read_only() -> None:
    context = single_position(7)
    assert context.positions.tolist() == [7]
    with pytest.raises(ValueError, match="read-only"):
        context.positions[0] = 8
