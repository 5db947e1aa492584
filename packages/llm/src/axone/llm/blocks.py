"""Layers of a language model, as its configuration describes them."""

import numpy as np

from axone.llm.config import LanguageModelConfig
from axone.nn import (
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    NgramEmbedding,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    TransformerBlock,
)


def transformer_block(
    config: LanguageModelConfig, rotary: RotaryEmbedding | None, rng: np.random.Generator
) -> TransformerBlock:
    """Return a block of the model, with weights that `rng` draws."""
    attention = MultiHeadAttention(
        config.embed_dim,
        config.num_heads,
        num_kv_heads=config.kv_heads,
        head_dim=config.head_width,
        bias=config.bias,
        qkv_bias=config.qkv_bias,
        dropout=config.dropout,
        rotary=rotary,
        qk_norm=config.qk_norm,
        qk_norm_eps=config.qk_norm_eps,
        rng=rng,
    )
    return TransformerBlock(
        attention, _mlp(config, rng), attention_norm=norm_layer(config), mlp_norm=norm_layer(config)
    )


def _mlp(config: LanguageModelConfig, rng: np.random.Generator) -> FeedForward | SwiGLU:
    if config.mlp == "swiglu":
        return SwiGLU(config.embed_dim, config.mlp_dim, bias=config.bias, dropout=config.dropout, rng=rng)
    return FeedForward(
        config.embed_dim,
        config.mlp_dim,
        activation=config.mlp,
        bias=config.bias,
        dropout=config.dropout,
        rng=rng,
    )


def norm_layer(config: LanguageModelConfig) -> LayerNorm | RMSNorm:
    """Return a normalization layer of the model."""
    if config.norm == "rms":
        return RMSNorm(config.embed_dim, eps=config.norm_eps)
    return LayerNorm(config.embed_dim, eps=config.norm_eps, bias=config.bias)


def ngram_layer(config: LanguageModelConfig, rng: np.random.Generator) -> NgramEmbedding | None:
    """Return the model's n-gram embeddings, or None if it has none; `rng` gives dropout a generator of its own."""
    if config.max_ngram == 1:
        return None
    return NgramEmbedding(
        config.vocab_size,
        config.embed_dim,
        config.ngram_tables,
        num_hashes=config.ngram_hashes,
        dropout=config.ngram_dropout,
        rng=rng.spawn(1)[0],
    )
