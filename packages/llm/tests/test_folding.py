"""Folding: the same function with fewer operations for every kind of model, and other models stay as they are."""

from collections.abc import Callable

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel
from axone.llm.generation.folding import FoldCache, Folded, FoldedGELU, FoldedSwiGLU, UnitNorm, fold
from axone.nn import FeedForward, LayerNorm, Linear, MultiHeadAttention, RMSNorm, SwiGLU, Transformer

Build = Callable[..., LanguageModel]


def folded(model: LanguageModel, cache: FoldCache | None = None) -> Folded:
    weight = model.input_weight
    assert isinstance(weight, np.ndarray)
    return fold(model.transformer, weight, model.output_weight.data, cache)


def test_folded_model_is_the_same_function(kind: str, build: Build) -> None:
    model, ids = build(kind, np.float64), np.random.default_rng(2).integers(0, 19, (3, 12))
    model.ngram_embedding = None  # added beside the folded model
    before = {name: array.copy() for name, array in model.state_dict().items()}
    other = folded(model)
    logits = other.transformer(Tensor(other.embedding[ids])).data @ other.head.T
    if other.head_bias is not None:
        logits += other.head_bias
    np.testing.assert_allclose(logits, model(ids).data, rtol=1e-9, atol=1e-9)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_folded_norms_only_divide_by_the_length_and_attention_scales_nothing(kind: str, build: Build) -> None:
    other = folded(build(kind)).transformer
    norms = [other.norm, *(norm for block in other.blocks for norm in (block.attention_norm, block.mlp_norm))]
    assert all(type(norm) is UnitNorm for norm in norms)
    assert all(vars(block.attention)["scale"] == 1 for block in other.blocks)


@pytest.mark.parametrize("rows", [(8,), (3, 8), (2, 3, 8)])
def test_inference_of_folded_layers_equals_their_call(rows: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    up, gate, down = (Linear(8, 12, rng=rng), Linear(8, 12, rng=rng), Linear(12, 8, rng=rng))
    x = rng.standard_normal(rows)
    for layer in (FoldedGELU(up, down), FoldedSwiGLU(gate, up, down), UnitNorm(0.1, np.dtype(np.float64))):
        layer.astype(np.float64)
        np.testing.assert_allclose(layer.inference()(x), layer(Tensor(x)).data, atol=1e-12)


def test_every_vector_that_is_added_to_a_centred_stream_has_mean_zero(build: Build) -> None:
    other = folded(build(dtype=np.float64))
    assert other.transformer.position is not None
    added = [other.embedding, other.transformer.position.weight.data]
    for block in other.transformer.blocks:
        for layer in (vars(block.attention)["out_proj"], vars(block.mlp)["down_proj"]):
            added += [layer.weight.data.T, layer.bias.data]
    for array in added:
        np.testing.assert_allclose(array.mean(axis=-1), 0, atol=1e-12)


class LouderNorm(LayerNorm):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class LouderLinear(Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class LouderSwiGLU(SwiGLU):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class LouderAttention(MultiHeadAttention):
    def __call__(self, x: Tensor, **options: object) -> Tensor:  # type: ignore[override]  # without the weights
        return super().__call__(x, **options) * 2.0  # type: ignore[call-overload, no-any-return]  # as it was called


class LouderTransformer(Transformer):
    def __call__(self, x: Tensor, **options: object) -> Tensor:
        return super().__call__(x, **options) * 2.0  # type: ignore[arg-type]  # as it was called


@pytest.mark.parametrize("place", ["norm", "mlp_norm", "mlp", "linear", "attention", "kind", "transformer"])
def test_model_with_a_layer_that_redefines_its_call_stays_as_it_is(place: str, build: Build) -> None:
    model = build()
    block = model.transformer.blocks[1]
    if place == "norm":
        model.transformer.norm = LouderNorm(16)
    elif place == "mlp_norm":
        block.mlp_norm = LouderNorm(16)
    elif place == "mlp":
        block.mlp = LouderSwiGLU(16, 64)
    elif place == "linear":
        vars(block.mlp)["up_proj"] = LouderLinear(16, 64)
    elif place == "attention":
        block.attention = LouderAttention(16, 4)
    elif place == "kind":
        block.attention_norm = RMSNorm(16)
    else:
        other = model.transformer
        model.transformer = LouderTransformer(other.blocks, norm=other.norm, position=other.position)
    assert folded(model) == (model.transformer, model.embedding.weight.data, model.output_weight.data, None)


def test_subclass_that_redefines_nothing_is_folded(build: Build) -> None:
    model = build()
    model.transformer.blocks[1].mlp = type("Named", (FeedForward,), {})(16, 64)
    assert folded(model).transformer is not model.transformer


def test_folded_weights_are_stored_by_columns_and_begin_on_a_cache_line(build: Build) -> None:
    for block in folded(build()).transformer.blocks:
        for layer in (vars(block.attention)["qkv_proj"], vars(block.mlp)["up_proj"]):
            assert layer.weight.data.T.flags.c_contiguous
            assert layer.weight.data.ctypes.data % 64 == 0


def test_folded_weights_are_reused_until_a_weight_changes(build: Build) -> None:
    model, cache = build(dtype=np.float64), FoldCache()

    def weights() -> list[np.ndarray]:
        return [p.data for p in folded(model, cache).transformer.parameters() if p.ndim == 2]

    first, again = weights(), weights()
    assert [np.shares_memory(a, b) for a, b in zip(first, again)] == [False] + [True] * 8  # positions are copied
    block = model.transformer.blocks[1]
    assert isinstance(block.mlp, FeedForward)
    block.mlp.up_proj.weight.data[3, 2] += 1
    changed = weights()
    assert [np.array_equal(a, b) for a, b in zip(first, changed)] == [True] * 7 + [False, True]
    block.attention_norm.weight.data[0] += 1  # type: ignore[attr-defined]  # a LayerNorm
    assert [np.array_equal(a, b) for a, b in zip(changed, weights())] == [True] * 5 + [False] + [True] * 3
