"""Sequences that begin with the same positions, computed once: values and gradients of a batch that repeats them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from axone.autograd import Tensor, concatenate
from axone.nn import KVCache, MultiHeadAttention, RotaryEmbedding, SharedPrefix

C, D = 12, 4


def attention(kv_heads: int = 1, *, rotary: bool = True) -> MultiHeadAttention:
    embedding = RotaryEmbedding(D) if rotary else None
    rng = np.random.default_rng(0)
    return MultiHeadAttention(C, 3, num_kv_heads=kv_heads, rotary=embedding, rng=rng).astype(np.float64)


def run(layer: MultiHeadAttention, prefix: NDArray[Any], rest: NDArray[Any], **options: Any) -> list[NDArray[Any]]:
    """Return the outputs at the own positions of the rows, and the gradients of both parts and of the weights."""
    P, B = len(prefix), len(rest)
    first, others = Tensor(prefix, requires_grad=True), Tensor(rest, requires_grad=True)
    if options.pop("shared"):
        x = concatenate([first, others.reshape(-1, C)])[None]
        out = layer(x, mask=SharedPrefix(P, B, options.get("mask")))[:, P:].reshape(*rest.shape)
    else:
        rows = first[None] + Tensor(np.zeros((B, P, C)))
        mask = options.get("mask")
        if mask is not None:
            wide = np.ones((B, 1, P + rest.shape[1], P + rest.shape[1]), np.bool_)
            wide[:, :, P:, P:] = mask
            mask = wide
        out = layer(concatenate([rows, others], axis=1), mask=mask)[:, P:]
    (out * Tensor(np.random.default_rng(1).standard_normal(out.shape))).sum().backward()
    grads = [first.grad, others.grad, *(parameter.grad for parameter in layer.parameters())]
    for parameter in layer.parameters():
        parameter.grad = None
    return [out.data, *(grad for grad in grads if grad is not None)]


@given(data=st.data())
def test_shared_positions_equal_repeated_ones(data: st.DataObject) -> None:
    P, B, T = (data.draw(st.integers(1, most), label=name) for name, most in (("P", 5), ("B", 4), ("T", 70)))
    layer = attention(data.draw(st.sampled_from([1, 3])), rotary=data.draw(st.booleans()))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    prefix, rest = rng.standard_normal((P, C)), rng.standard_normal((B, T, C))
    mask = None
    if data.draw(st.booleans(), label="mask"):
        segments = np.sort(rng.integers(0, 3, (B, T)), axis=1)
        mask = segments[:, None, :, None] == segments[:, None, None, :]
    one, other = (run(layer, prefix, rest, mask=mask, shared=shared) for shared in (True, False))
    assert len(one) == len(other) == 7
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_positions_count_in_each_sequence() -> None:
    assert SharedPrefix(2, 3).positions(2 + 3 * 2).tolist() == [0, 1, 2, 3, 2, 3, 2, 3]


def test_a_layout_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2 \+ 3 T, "):
        attention(rotary=False)(Tensor(np.zeros((1, 7, C))), mask=SharedPrefix(2, 3))


def test_a_shared_prefix_is_for_training() -> None:
    cache = KVCache(1, 1, 8, D, dtype=np.float64)
    with pytest.raises(ValueError, match="without a cache"):
        attention()(Tensor(np.zeros((1, 8, C))), mask=SharedPrefix(2, 3), cache=cache)
