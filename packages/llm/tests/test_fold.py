"""Folding: the same function with fewer operations, for every kind of model, and nothing else is touched."""

from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel, LanguageModelConfig
from axone.llm.generation.folding import Folded, FoldedAttention, Folds, UnitNorm, folded
from axone.nn import FeedForward, LayerNorm, RMSNorm

KINDS: list[dict[str, Any]] = [
    {},
    {"bias": False, "tie_embeddings": False},
    {"norm": "rms", "mlp": "swiglu", "position": "rotary", "num_kv_heads": 2, "bias": False},
    {"norm": "rms", "mlp": "gelu", "qk_norm": True},
    {"mlp": "swiglu", "position": "rotary", "qk_norm": True, "num_kv_heads": 1},
    {"mlp": "relu2"},
]


def build(**changes: Any) -> LanguageModel:
    """Return a model in float64 whose every weight matters."""
    config = LanguageModelConfig(vocab_size=19, context_length=12, num_layers=2, num_heads=4, embed_dim=16, **changes)
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    return model.astype(np.float64)


def fold(model: LanguageModel) -> Folded:
    return folded(model.transformer, model.embedding.weight.data, model.output_weight.data)


@pytest.mark.parametrize("changes", KINDS)
def test_a_folded_model_is_the_same_function(changes: dict[str, Any]) -> None:
    model, ids = build(**changes), np.random.default_rng(2).integers(0, 19, (3, 12))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    other = fold(model)
    logits = other.transformer(Tensor(other.embedding[ids])).data @ other.head.T
    if other.head_bias is not None:
        logits += other.head_bias
    np.testing.assert_allclose(logits, model(ids).data, rtol=1e-9, atol=1e-9)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("changes", KINDS)
def test_norms_only_divide_by_the_length(changes: dict[str, Any]) -> None:
    other = fold(build(**changes)).transformer
    norms = [other.norm, *(norm for block in other.blocks for norm in (block.attention_norm, block.mlp_norm))]
    assert all(type(norm) is UnitNorm for norm in norms)
    assert all(type(block.attention) is FoldedAttention for block in other.blocks)


def test_nothing_that_is_added_to_a_centred_stream_has_a_mean() -> None:
    other = fold(build())
    assert other.transformer.position is not None
    added = [other.embedding, other.transformer.position.weight.data]
    for block in other.transformer.blocks:
        for layer in (vars(block.attention)["out_proj"], vars(block.mlp)["down_proj"]):
            added += [layer.weight.data.T, layer.bias.data]
    for array in added:
        np.testing.assert_allclose(array.mean(axis=-1), 0, atol=1e-12)


class Louder(LayerNorm):
    """A norm that could compute anything."""


@pytest.mark.parametrize("place", ["norm", "mlp_norm", "mlp", "kind"])
def test_a_model_with_an_unknown_layer_is_left_as_it_is(place: str) -> None:
    model = build()
    block = model.transformer.blocks[1]
    if place == "norm":
        model.transformer.norm = Louder(16)
    elif place == "mlp_norm":
        block.mlp_norm = Louder(16)
    elif place == "mlp":
        block.mlp = type("Other", (FeedForward,), {})(16, 64)
    else:
        block.attention_norm = RMSNorm(16)
    assert fold(model) == (model.transformer, model.embedding.weight.data, model.output_weight.data, None)


def test_weights_are_stored_by_columns_from_a_cache_line_on() -> None:
    for block in fold(build()).transformer.blocks:
        for layer in (vars(block.attention)["qkv_proj"], vars(block.mlp)["up_proj"]):
            assert layer.weight.data.T.flags.c_contiguous
            assert layer.weight.data.ctypes.data % 64 == 0


def test_what_was_folded_is_used_again_until_a_weight_changes() -> None:
    model, folds = build(), Folds()

    def fold() -> list[np.ndarray]:
        other = folded(model.transformer, model.embedding.weight.data, model.output_weight.data, folds)
        return [parameter.data for parameter in other.transformer.parameters() if parameter.ndim == 2]

    first, again = fold(), fold()
    assert [np.shares_memory(a, b) for a, b in zip(first, again)] == [False] + [True] * 8  # positions are no product
    block = model.transformer.blocks[1]
    assert isinstance(block.mlp, FeedForward)
    block.mlp.up_proj.weight.data[3, 2] += 1
    changed = fold()
    assert [np.array_equal(a, b) for a, b in zip(first, changed)] == [True] * 7 + [False, True]
    block.attention_norm.weight.data[0] += 1  # type: ignore[attr-defined]  # a LayerNorm
    assert [np.array_equal(a, b) for a, b in zip(changed, fold())] == [True] * 5 + [False] + [True] * 3
