"""Sharding: which models tensor-parallel decoding accepts, and the layers of which it computes shards."""

import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel
from axone.llm.generation.sharding import can_shard
from axone.llm.generation.tensor_parallel import TensorParallelDecoder
from axone.nn import FeedForward, LayerNorm, Linear, Module, MultiHeadAttention, Sequential, Transformer
from axone.nn.extend import Dense, Forward, dense_product

Build = Callable[..., LanguageModel]
IDS = np.random.default_rng(2).integers(0, 19, 6).tolist()

needs_fork = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="elsewhere no process is forked"
)


class Adapted(Linear):
    """A product with an adapter of rank one, which states its inference."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) + x.sum(axis=-1, keepdims=True)

    def inference(self, dense: Dense = dense_product) -> Forward:
        product, adapter = Linear.inference(self, dense), dense(np.ones_like(self.weight.data), None)
        return lambda x: product(x) + adapter(x)


class Named(FeedForward):
    """A layer that redefines nothing."""


@needs_fork
@pytest.mark.parametrize("place", ["qkv_proj", "out_proj", "up_proj", "named"])
def test_layers_that_state_their_inference_are_sharded(place: str, build: Build) -> None:
    model = build(dtype=np.float64)
    for block in model.transformer.blocks:
        if place == "named":
            block.mlp = Named(16, 24, rng=np.random.default_rng(4)).astype(np.float64)
            continue
        owner: Any = block.mlp if place == "up_proj" else block.attention
        out_features, in_features = vars(owner)[place].weight.shape
        vars(owner)[place] = Adapted(in_features, out_features, rng=np.random.default_rng(4)).astype(np.float64)
    assert can_shard(model.transformer)
    parallel = TensorParallelDecoder(
        model.transformer, model.input_weight, model.output_weight.data, model.make_caches(1), 1
    )
    logits = [parallel.decode([token], position)[0] for position, token in enumerate(IDS)]
    np.testing.assert_allclose(logits, model(np.asarray([IDS])).data[0], atol=1e-11)


class CalledLinear(Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class CalledNorm(LayerNorm):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class CalledAttention(MultiHeadAttention):
    def __call__(self, x: Tensor, **options: Any) -> Any:
        return super().__call__(x, **options) * 2.0


class CalledTransformer(Transformer):
    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        return super().__call__(x, **options) * 2.0


class Wrapped(Module):
    """A layer around another one, without an inference of its own."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]  # of any kind


@pytest.mark.parametrize(
    "place", ["mlp", "function", "out_proj", "q_norm", "norm", "attention", "block", "transformer", "sequential"]
)
def test_models_with_a_layer_that_is_called_are_not_sharded(place: str, build: Build) -> None:
    model = build("rms and gelu")
    transformer, block = model.transformer, model.transformer.blocks[0]
    assert can_shard(transformer)
    if place == "mlp":
        block.mlp = Wrapped(block.mlp)
    elif place == "function":
        block.mlp = lambda x: x * 0.5
    elif place == "out_proj":
        vars(block.attention)["out_proj"] = CalledLinear(16, 16)
    elif place == "q_norm":
        vars(block.attention)["q_norm"] = Wrapped(vars(block.attention)["q_norm"])
    elif place == "norm":
        transformer.norm = CalledNorm(16)
    elif place == "attention":
        block.attention = CalledAttention(16, 4)
    elif place == "block":
        block.__class__ = type("Block", (type(block),), {"__call__": type(block).__call__})
    elif place == "transformer":
        transformer = CalledTransformer(transformer.blocks, norm=transformer.norm)
    else:
        block.mlp = Sequential(Wrapped(block.mlp))
    assert not can_shard(transformer)
