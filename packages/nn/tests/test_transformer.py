"""Transformer: the same output at once, run by run through caches, and beside a longer sequence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor, no_grad
from axone.autograd.optim import AdamW
from axone.nn import (
    Embedding,
    FeedForward,
    KVCache,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    Transformer,
    TransformerBlock,
)
from axone.nn.functional import cross_entropy

C, H, K, T = 32, 4, 2, 90


def gpt(rng: np.random.Generator) -> Transformer:
    blocks = [
        TransformerBlock(
            MultiHeadAttention(C, H, num_kv_heads=K, rng=rng),
            FeedForward(C, 4 * C, rng=rng),
            attention_norm=LayerNorm(C),
            mlp_norm=LayerNorm(C),
        )
        for _ in range(3)
    ]
    return Transformer(blocks, norm=LayerNorm(C), position=Embedding(T, C, rng=rng))


def qwen(rng: np.random.Generator) -> Transformer:
    rotary = RotaryEmbedding(C // H)
    blocks = [
        TransformerBlock(
            MultiHeadAttention(C, H, num_kv_heads=K, bias=False, rotary=rotary, qk_norm=True, rng=rng),
            SwiGLU(C, 3 * C, rng=rng),
            attention_norm=RMSNorm(C),
            mlp_norm=RMSNorm(C),
        )
        for _ in range(3)
    ]
    return Transformer(blocks, norm=RMSNorm(C))


def caches(model: Transformer, batch: int, dtype: Any) -> list[KVCache]:
    return [KVCache(batch, K, T, C // H, dtype=dtype) for _ in model.blocks]


@pytest.fixture(params=[gpt, qwen])
def model(request: pytest.FixtureRequest) -> Transformer:
    made: Transformer = request.param(np.random.default_rng(0)).eval()
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@no_grad()
def test_runs_of_positions_through_caches_equal_the_whole_text(
    model: Transformer, dtype: Any, tolerance: float
) -> None:
    x = Tensor(np.random.default_rng(1).standard_normal((2, T, C)).astype(dtype))
    model.astype(dtype)
    held = caches(model, 2, dtype)
    ends = [0, 70, 71, 72, 80, T]
    parts = [model(Tensor(x.data[:, a:b]), caches=held).data for a, b in itertools.pairwise(ends)]
    assert np.abs(np.concatenate(parts, axis=1) - model(x).data).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@no_grad()
def test_a_left_padded_sequence_gets_the_output_that_it_gets_alone(
    model: Transformer, dtype: Any, tolerance: float
) -> None:
    """Two sequences of 9 and 20 tokens in one batch, at once and then position by position."""
    model.astype(dtype)
    rng = np.random.default_rng(1)
    lengths, longest, more = np.array([9, 20]), 20, 3
    texts = [rng.standard_normal((1, n + more, C)).astype(dtype) for n in lengths]
    padded = np.zeros((2, longest + more, C), dtype)
    for row, text in zip(padded, texts):
        row[-text.shape[1] :] = text[0]
    missing = longest - lengths  # (B,)
    visible = np.arange(longest + more) >= missing[:, None]  # (B, S)
    positions = np.maximum(np.arange(longest + more) - missing[:, None], 0)  # (B, S)
    held = caches(model, 2, dtype)
    steps = [(0, longest), *((n, n + 1) for n in range(longest, longest + more))]
    parts = [
        model(Tensor(padded[:, a:b]), mask=visible[:, None, None, :b], positions=positions[:, a:b], caches=held).data
        for a, b in steps
    ]
    together = np.concatenate(parts, axis=1)
    for i, text in enumerate(texts):
        alone = model(Tensor(text)).data[0]
        assert np.abs(together[i, missing[i] :] - alone).max() < tolerance


def test_it_learns_to_copy(model: Transformer) -> None:
    """Each token equals the one before the last, which only attention can see."""
    rng = np.random.default_rng(0)
    table, head = Embedding(8, C, rng=rng), Linear(C, 8, rng=rng)
    parameters = [p for part in (table, model.train(), head) for p in part.parameters()]
    optimizer = AdamW(parameters, lr=3e-3)
    loss = np.inf
    for _ in range(120):
        ids = rng.integers(0, 8, (16, 12))
        output = cross_entropy(head(model(table(ids)))[:, 2:], ids[:, :-2])
        optimizer.zero_grad()
        output.backward()
        optimizer.step()
        loss = output.item()
    assert loss < 0.3
