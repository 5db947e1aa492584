"""Attention: tiles, masks, caches, the range of scores, and memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.nn import KVCache, MultiHeadAttention, RotaryEmbedding
from axone.nn.functional import attention_kernel, packed_attention, plain, scaled_dot_product_attention

Arrays = list[NDArray[Any]]


def random(*shape: int, dtype: Any = np.float64, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(function: Any, arrays: Arrays, **options: Any) -> Arrays:
    """Return the output and all gradients."""
    leaves = [Tensor(array, requires_grad=True) for array in arrays]
    out = function(*leaves, **options)
    out.backward(random(*out.shape, seed=1))
    return [out.data, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.fixture(params=["kept", "computed again"])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of four queries and few heads, so that small inputs use every branch that large ones use."""
    monkeypatch.setattr(attention_kernel, "_TILE_ROWS", 4)
    monkeypatch.setattr(attention_kernel, "_TILE_SCORES", 60)
    if request.param == "computed again":
        monkeypatch.setattr(attention_kernel, "_KEPT_SCORES", 0)


@pytest.mark.usefixtures("small_tiles")
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_tiled_attention_equals_the_plain_composition(data: st.DataObject) -> None:
    B, K, G, T, S, D = (data.draw(st.integers(1, n), label=name) for name, n in zip("BKGTSD", (3, 3, 3, 13, 13, 3)))
    causal, seed = data.draw(st.booleans(), label="causal"), data.draw(st.integers(0, 99), label="seed")
    shape = data.draw(st.sampled_from([(B, K * G, T, S), (B, 1, 1, S), (T, S), (1, K * G, T, 1)]), label="mask")
    mask = None if data.draw(st.booleans(), label="all") else random(*shape, seed=seed) > -0.5
    arrays = [random(B, K * G, T, D), random(B, K, S, D, seed=2), random(B, K, S, D, seed=3)]
    found = run(scaled_dot_product_attention, arrays, mask=mask, causal=causal)
    expected = run(plain.scaled_dot_product_attention, arrays, mask=mask, causal=causal)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_that_may_see_no_key_gives_zeros(causal: bool) -> None:
    mask = np.ones((2, 1, 9, 9), np.bool_)
    mask[1, :, :, :5] = False  # as of a text padded on the left
    mask[0, :, 7] = False
    out, gradient = run(lambda qkv: packed_attention(qkv, 2, 1, mask=mask, causal=causal), [random(2, 9, 8)])
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(out[0, 7], np.zeros(4))
    if causal:
        np.testing.assert_array_equal(out[1, :5], np.zeros((5, 4)))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_scores_of_any_size_stay_finite(scale: float) -> None:
    arrays = [random(2, 2, 9, 4, dtype=np.float32, seed=i) for i in range(3)]
    arrays[0] *= np.float32(scale)
    found = run(scaled_dot_product_attention, arrays, causal=True)
    wide = run(plain.scaled_dot_product_attention, [array.astype(np.float64) for array in arrays], causal=True)
    for one, other in zip(found, wide, strict=True):
        assert np.isfinite(one).all()
        atol = max(
            2e-5 * np.abs(other).max(), 2e-6
        )  # where softmax is certain, gradients are what rounding leaves of 0
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=atol)


@pytest.mark.usefixtures("small_tiles")
def test_rows_far_apart_keep_their_digits() -> None:
    """One head's scores lie around -1,000 and another's around 1,000: no shift serves both."""
    q = np.stack([np.full((9, 1), -1.0), np.full((9, 1), 1.0)])[None] * 1000
    k = 1 + 1e-3 * random(1, 2, 9, 1)
    found = run(scaled_dot_product_attention, [q, k, random(1, 2, 9, 1, seed=2)])
    expected = run(plain.scaled_dot_product_attention, [q, k, random(1, 2, 9, 1, seed=2)])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def peak(kept: int, monkeypatch: pytest.MonkeyPatch, T: int = 1024) -> int:
    """Return the peak memory of forward and backward, in bytes."""
    monkeypatch.setattr(attention_kernel, "_KEPT_SCORES", kept)
    arrays = [random(1, 4, T, 16, dtype=np.float32) for _ in range(3)]
    tracemalloc.start()
    run(scaled_dot_product_attention, arrays, causal=True)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_is_linear_in_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = peak(0, monkeypatch, 1024), peak(0, monkeypatch, 2048)
    assert two < 2.5 * one
    assert one < peak(2**40, monkeypatch) / 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2}, {"rotary": True, "qk_norm": True}], ids=str)
def test_attention_with_a_cache_equals_attention_without(options: dict[str, Any], dtype: Any, tolerance: float) -> None:
    rotary = RotaryEmbedding(4) if options.pop("rotary", False) else None
    attention = MultiHeadAttention(16, 4, rotary=rotary, rng=np.random.default_rng(0), **options).astype(dtype)
    x = random(2, 80, 16, dtype=dtype)
    cache = KVCache(2, attention.num_kv_heads, 80, 4, dtype=dtype)
    with no_grad():
        whole = attention(Tensor(x)).data
        parts = [attention(Tensor(x[:, a:b]), cache=cache).data for a, b in ((0, 5), (5, 6), (6, 75), (75, 80))]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=tolerance)


def test_lowering_the_length_of_a_cache_forgets_positions() -> None:
    attention = MultiHeadAttention(8, 2, rng=np.random.default_rng(0))
    x = Tensor(random(1, 5, 8, dtype=np.float32))
    cache = KVCache(1, 2, 5, 4)
    first = attention(x, cache=cache).data
    cache.length = 0
    np.testing.assert_array_equal(attention(x, cache=cache).data, first)


def test_a_full_cache_is_refused() -> None:
    cache = KVCache(1, 2, 4, 4)
    with pytest.raises(ValueError, match="the cache has room for 4 positions, and not for 5"):
        MultiHeadAttention(8, 2)(Tensor(random(1, 5, 8, dtype=np.float32)), cache=cache)


def test_a_cache_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"keys of shape \(1, 2, 3, 3\) do not fit into a cache of shape \(1, 2, 4, 4\)"
    ):
        KVCache(1, 2, 4, 4).append(np.ones((1, 2, 3, 3)), np.ones((1, 2, 3, 3)))


def test_backward_through_a_cache_is_refused() -> None:
    out = MultiHeadAttention(8, 2)(Tensor(random(1, 3, 8, dtype=np.float32)), cache=KVCache(1, 2, 3, 4))
    with pytest.raises(RuntimeError, match="a KVCache is for inference and holds no gradients: train without one"):
        out.sum().backward()


@pytest.mark.parametrize("cached", [False, True])
def test_returned_weights_are_those_of_the_output(cached: bool) -> None:
    """With one-hot values, the attended values of a position are its row of weights."""
    attention = MultiHeadAttention(6, 2, num_kv_heads=1, head_dim=6, bias=False, rng=np.random.default_rng(0))
    x = Tensor(np.eye(6, dtype=np.float32)[None])
    attention.qkv_proj.weight.data[-6:] = np.eye(6)
    cache = KVCache(1, 1, 6, 6) if cached else None
    mask = np.random.default_rng(1).random((1, 2, 6, 6)) < 0.7
    _, weights = attention(x, mask=mask, cache=cache, return_weights=True)
    assert weights.shape == (1, 2, 6, 6)
    gathered = packed_attention(attention.qkv_proj(x), 2, 1, mask=mask).data  # (1, T, 2 * 6)
    np.testing.assert_allclose(gathered.reshape(1, 6, 2, 6).swapaxes(1, 2), weights, atol=1e-6)


def test_tables_of_a_decoding_step_are_computed_once() -> None:
    rotary, positions = RotaryEmbedding(4), np.asarray([7])
    free = rotary.tables(positions)
    assert rotary.tables(positions)[0] is not free[0]
    positions.flags.writeable = False
    held = rotary.tables(positions)
    assert rotary.tables(positions)[0] is held[0]
    assert rotary.tables(positions, np.float64)[0].dtype == np.float64
    for one, other in zip(rotary.tables(positions), free, strict=True):
        np.testing.assert_array_equal(one, other)
        with pytest.raises(ValueError, match="read-only"):
            one[...] = 0
    other_position = np.asarray([8])
    other_position.flags.writeable = False
    assert not np.array_equal(rotary.tables(other_position)[0], free[0])


def test_a_left_padded_sequence_gets_the_output_that_it_gets_alone() -> None:
    attention = MultiHeadAttention(8, 2, rotary=RotaryEmbedding(4), rng=np.random.default_rng(0)).astype(np.float64)
    x = random(2, 7, 8)
    visible = np.arange(7) >= np.array([[3], [0]])  # (B, S)
    together = attention(Tensor(x), mask=visible[:, None, None], positions=np.maximum(np.arange(7) - [[3], [0]], 0))
    alone = attention(Tensor(x[:1, 3:]))
    np.testing.assert_allclose(together.data[:1, 3:], alone.data, atol=1e-12)


def test_arguments_that_do_not_match_are_refused() -> None:
    attention = MultiHeadAttention(8, 2)
    x = Tensor(np.ones((1, 3, 8), np.float32))
    with pytest.raises(TypeError, match=r"mask \(float64\) must be boolean, True where a query may see a key"):
        attention(x, mask=np.ones((3, 3)))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match=r"mask of shape \(2, 4\) must broadcast to \(B, H, T, S\) = \(1, 2, 3, 3\)"):
        attention(x, mask=np.ones((2, 4), np.bool_))
    with pytest.raises(ValueError, match=r"num_heads \(4\) must be divisible by num_kv_heads \(3\)"):
        MultiHeadAttention(8, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match=r"dim \(8\) must be divisible by num_heads \(3\): or give head_dim"):
        MultiHeadAttention(8, 3)
    with pytest.raises(ValueError, match=r"head_dim \(6\) of the rotary embedding must be 4"):
        MultiHeadAttention(8, 2, rotary=RotaryEmbedding(6))
    with pytest.raises(
        ValueError, match=r"queries \(1, 3, 2, 4\), keys \(1, 2, 2, 4\) and values .* must have shapes \(B, H, T, D\)"
    ):
        scaled_dot_product_attention(*(Tensor(np.ones((1, n, 2, 4))) for n in (3, 2, 2)))
