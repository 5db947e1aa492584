"""The names and shapes of a model's parameters, from its configuration alone: nothing is allocated.

What a file holds is compared with this before a model is built, and a model's size is known before memory is asked for.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from axone.llm.config import LanguageModelConfig
from axone.llm.storage.safetensors import Shape


def parameter_shapes(config: LanguageModelConfig) -> Iterator[tuple[str, Shape]]:
    """Yield the name and shape of every parameter, in the order of `LanguageModel.named_parameters`.

    Parameters
    ----------
    config : LanguageModelConfig

    Yields
    ------
    name : str
    shape : tuple of int
    """
    C = config.embed_dim
    yield "embedding.weight", (config.vocab_size, C)
    if config.position == "learned":
        yield "transformer.position.weight", (config.context_length, C)
    for i in range(config.num_layers):
        for name, shape in _block_shapes(config):
            yield f"transformer.blocks.{i}.{name}", shape
    yield from _norm_shapes(config, "transformer.norm")
    if not config.tie_embeddings:
        yield "head.weight", (config.vocab_size, C)


def count_parameters(config: LanguageModelConfig) -> int:
    """Return how many numbers a model of this configuration trains.

    Examples
    --------
    >>> from axone.llm import LanguageModelConfig
    >>> from axone.llm.pretrained.layout import count_parameters
    >>> count_parameters(LanguageModelConfig.gpt2())
    124439808
    """
    one = sum(math.prod(shape) for _, shape in parameter_shapes(replace(config, num_layers=1)))
    block = sum(math.prod(shape) for _, shape in _block_shapes(config))
    return one + (config.num_layers - 1) * block


def _block_shapes(config: LanguageModelConfig) -> Iterator[tuple[str, Shape]]:
    C, H, K, D = config.embed_dim, config.num_heads, config.kv_heads, config.head_width
    yield from _norm_shapes(config, "attention_norm")
    yield from _linear_shapes(config, "attention.qkv_proj", C, (H + 2 * K) * D, bias=config.has_qkv_bias)
    yield from _linear_shapes(config, "attention.out_proj", H * D, C)
    if config.qk_norm:
        yield "attention.q_norm.weight", (D,)
        yield "attention.k_norm.weight", (D,)
    yield from _norm_shapes(config, "mlp_norm")
    if config.mlp == "swiglu":
        yield from _linear_shapes(config, "mlp.gate_proj", C, config.mlp_dim)
    yield from _linear_shapes(config, "mlp.up_proj", C, config.mlp_dim)
    yield from _linear_shapes(config, "mlp.down_proj", config.mlp_dim, C)


def _linear_shapes(
    config: LanguageModelConfig, name: str, in_features: int, out_features: int, *, bias: bool | None = None
) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (out_features, in_features)
    if config.bias if bias is None else bias:
        yield f"{name}.bias", (out_features,)


def _norm_shapes(config: LanguageModelConfig, name: str) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (config.embed_dim,)
    if config.bias and config.norm == "layer":
        yield f"{name}.bias", (config.embed_dim,)
