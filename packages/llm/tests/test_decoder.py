"""Decoder: logits equal those of a call for every kind of model, position by position, in batches and in threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel
from axone.llm.runtime import resources
from axone.nn import FeedForward, Linear, Module, cache
from axone.nn.extend import RowCache

Build = Callable[..., LanguageModel]
BOUNDS: dict[Any, float] = {np.float32: 5e-4, np.float64: 1e-11}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every model as larger than the processor's caches: it is not folded."""
    monkeypatch.setattr(resources, "SMALL_MODEL", 0)


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest) -> str:
    if request.param == "large":
        request.getfixturevalue("large")
    return str(request.param)


def ids(count: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 19, (batch, count))


def one_by_one(model: LanguageModel, tokens: np.ndarray, **options: Any) -> np.ndarray:
    """Return the logits after each token of each sequence, read position by position: (B, T, V)."""
    caches, decode = model.make_caches(len(tokens)), model.decoder(**options)
    return np.stack([decode(tokens[:, [at]], caches) for at in range(tokens.shape[1])], axis=1)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.usefixtures("size")
def test_positions_one_by_one_equal_the_whole_text(kind: str, batch: int, dtype: Any, build: Build) -> None:
    model, tokens = build(kind, dtype), ids(12, batch)
    logits, whole = one_by_one(model, tokens), model(tokens).data
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, whole, atol=BOUNDS[dtype])
    caches, decode = model.make_caches(batch), model.decoder()
    np.testing.assert_allclose(decode(tokens[:, :5], caches), whole[:, 4], atol=BOUNDS[dtype])
    np.testing.assert_allclose(decode(tokens[:, 5:6], caches), whole[:, 5], atol=BOUNDS[dtype])
    assert {cache.length for cache in caches} == {6}


@pytest.mark.parametrize("batch", [1, 2])
def test_logits_stay_when_the_next_token_is_read(batch: int, build: Build) -> None:
    model = build()
    caches, decode = model.make_caches(batch), model.decoder()
    first = decode(ids(1, batch), caches)
    before = first.copy()
    decode(ids(1, batch), caches)
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("large")
def test_prefill_in_threads_equals_the_whole_text(kind: str, workers: int, build: Build) -> None:
    model, tokens = build(kind, np.float64, context_length=160), ids(110)
    caches, decode = model.make_caches(1), model.decoder(workers=workers)
    decode(tokens[:, :4], caches)
    np.testing.assert_allclose(decode(tokens[:, 4:], caches), model(tokens).data[:, -1], atol=1e-11)
    assert {cache.length for cache in caches} == {110}


@pytest.mark.usefixtures("large")
def test_prefill_in_threads_masks_the_padding(build: Build) -> None:
    model = build(context_length=160)
    long, short = ids(100), ids(70)
    padded = np.concatenate([np.zeros((1, 30), np.int64), short], axis=1)
    both = model.decoder(workers=3)(np.concatenate([long, padded]), model.make_caches(2), np.asarray([0, 30]))
    alone = [model(tokens).data[0, -1] for tokens in (long, short)]
    np.testing.assert_allclose(both, alone, atol=1e-4)


@pytest.mark.usefixtures("large")
def test_error_in_one_thread_ends_the_prefill(monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    model, calls = build(context_length=160), []

    def fail(self: Any, positions: np.ndarray, dtype: Any = None) -> Any:
        calls.append(positions)
        raise ValueError("no tables")

    model = build("llama", context_length=160)
    monkeypatch.setattr("axone.nn.RotaryEmbedding.tables", fail)
    with pytest.raises(ValueError, match="no tables"):
        model.decoder(workers=3)(ids(100), model.make_caches(1))
    assert calls


class Doubled(Module):
    """A layer without an inference of its own."""

    def __call__(self, x: Tensor) -> Tensor:
        return x * 2.0


class LouderFeedForward(FeedForward):
    """A layer that overrides the call alone."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class Adapted(Linear):
    """A product with something added to it."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) + x.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("place", ["mlp", "norm", "subclass", "up_proj", "out_proj", "function"])
@pytest.mark.usefixtures("size")
def test_custom_layers_are_called(place: str, build: Build) -> None:
    model, rng = build(), np.random.default_rng(3)
    block = model.transformer.blocks[0]
    if place == "mlp":
        block.mlp = Doubled()
    elif place == "norm":
        block.mlp_norm = Doubled()
    elif place == "subclass":
        block.mlp = LouderFeedForward(16, 64, rng=rng)
    elif place == "up_proj":
        vars(block.mlp)["up_proj"] = Adapted(16, 64, rng=rng)
    elif place == "out_proj":
        vars(block.attention)["out_proj"] = Adapted(16, 16, rng=rng)
    else:
        block.mlp = lambda x: x * 0.5
    tokens = ids(6)
    whole = model(tokens).data
    np.testing.assert_allclose(one_by_one(model, tokens), whole, atol=5e-4)
    np.testing.assert_allclose(model.decoder()(tokens, model.make_caches(1)), whole[:, -1], atol=5e-4)


def test_parameters_are_in_one_array_and_begin_on_a_cache_line(build: Build) -> None:
    weights = [parameter.data for parameter in build().parameters()]
    assert all(array.ctypes.data % 64 == 0 for array in weights)
    assert len({id(array.base) for array in weights}) == 1


def test_decoder_of_a_small_model_keeps_the_weights_of_when_it_was_made(kind: str, build: Build) -> None:
    model = build(kind)
    decode = model.decoder()
    before = decode(ids(3), model.make_caches(1))
    model.load_state_dict({name: np.zeros_like(array) for name, array in model.state_dict().items()})
    np.testing.assert_array_equal(decode(ids(3), model.make_caches(1)), before)
    np.testing.assert_array_equal(model.decoder()(ids(3), model.make_caches(1)), np.zeros((1, 19), np.float32))


@pytest.mark.usefixtures("large")
def test_decoder_of_a_large_model_sees_what_is_written_to_the_weights(build: Build) -> None:
    model = build()
    decode = model.decoder()
    model.load_state_dict({name: np.zeros_like(array) for name, array in model.state_dict().items()})
    np.testing.assert_array_equal(decode(ids(3), model.make_caches(1)), np.zeros((1, 19), np.float32))


def test_caches_of_short_contexts_are_row_major_and_others_are_not(build: Build) -> None:
    model = build()
    assert isinstance(model.make_caches(1)[0], RowCache)
    assert not isinstance(model.make_caches(2)[0], RowCache)
    assert not isinstance(model.make_caches(1, 5000)[0], RowCache)


def test_row_major_cache_reports_when_it_is_full_and_can_be_moved(build: Build) -> None:
    model, tokens = build(), ids(4)
    caches, decode = model.make_caches(1, 3), model.decoder()
    logits = []
    for at in range(3):
        logits.append(decode(tokens[:, at : at + 1], caches)[0])
        for each in caches:
            each.select(np.asarray([0]))
    np.testing.assert_allclose(logits, model(tokens).data[0, :3], atol=5e-4)
    for full in (caches[0], model.make_caches(1, 0)[0]):
        with pytest.raises(ValueError, match="the cache has room for"):
            decode(tokens[:, 3:], [full, caches[1]])


def test_memory_of_caches_follows_the_text_and_not_the_context(monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    monkeypatch.setattr(cache, "_FIRST_CAPACITY", 4)
    model, tokens = build("llama", context_length=10**12), ids(30)
    caches, decode = model.make_caches(1), model.decoder()
    logits = [decode(tokens[:, at : at + 1], caches)[0] for at in range(30)]
    np.testing.assert_allclose(logits, model(tokens).data[0], atol=5e-4)
    assert {each.capacity for each in caches} == {32}


@pytest.mark.parametrize("workers", [0, -1])
def test_number_of_workers_is_checked(workers: int, build: Build) -> None:
    with pytest.raises(ValueError, match=rf"workers \({workers}\) must be at least 1"):
        build().decoder(workers=workers)
