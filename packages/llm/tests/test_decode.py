"""Reading without a tape: every kind of model, a position at a time, several side by side, and many in threads."""

from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.llm import LanguageModel, LanguageModelConfig
from axone.llm.generation.cache import RowCache
from axone.llm.generation.decoder import Reader
from axone.nn import FeedForward, Linear, Module

KINDS: list[dict[str, Any]] = [
    {},
    {"bias": False, "tie_embeddings": False},
    {"num_kv_heads": 2, "norm": "rms", "mlp": "swiglu", "position": "rotary", "bias": False},
    {"num_kv_heads": 1, "mlp": "relu2", "qk_norm": True},
    {"dropout": 0.5, "mlp": "swiglu", "qk_norm": True, "position": "rotary"},
    {"norm": "rms"},
]


def build(**changes: Any) -> LanguageModel:
    fields: dict[str, Any] = {
        "vocab_size": 19,
        "context_length": 160,
        "num_layers": 2,
        "num_heads": 4,
        "embed_dim": 16,
    }
    model = LanguageModel(LanguageModelConfig(**{**fields, **changes}), rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():  # biases and gains too
        parameter.data += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
    return model


def reader_of(model: LanguageModel, cores: int) -> Reader:
    return Reader(model.transformer, model.embedding.weight.data, model.output_weight.data, cores=cores)


def ids(count: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 19, (batch, count))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("changes", KINDS)
def test_token_by_token_is_the_whole_at_once(changes: dict[str, Any], batch: int) -> None:
    model, tokens = build(**changes), ids(20, batch)
    whole = model(tokens).data
    caches, read = model.make_caches(batch), model.reader()
    read(tokens[:, :5], caches)
    one_by_one = [read(tokens[:, at : at + 1], caches) for at in range(5, 20)]
    np.testing.assert_allclose(np.stack(one_by_one, axis=1), whole[:, 5:], atol=2e-5)
    assert caches[0].length == 20


@pytest.mark.parametrize("changes", KINDS)
def test_float64_is_kept(changes: dict[str, Any]) -> None:
    model = build(**changes).astype(np.float64)
    caches, read = model.make_caches(1), model.reader()
    logits = [read(ids(6)[:, at : at + 1], caches)[0] for at in range(6)]
    assert logits[0].dtype == np.float64
    np.testing.assert_allclose(logits, model(ids(6)).data[0], atol=1e-12)


@pytest.mark.parametrize("batch", [1, 2])
def test_logits_outlast_the_next_token(batch: int) -> None:
    model = build()
    caches, read = model.make_caches(batch), model.reader()
    first = read(ids(1, batch), caches)
    before = first.copy()
    read(ids(1, batch), caches)
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("changes", KINDS)
def test_threads_read_what_one_reads(changes: dict[str, Any], cores: int) -> None:
    model, tokens = build(**changes), ids(110)
    caches, read = model.make_caches(1), reader_of(model, cores)
    read(tokens[:, :4], caches)
    np.testing.assert_allclose(read(tokens[:, 4:], caches), model(tokens).data[:, -1], atol=2e-5)
    assert {cache.length for cache in caches} == {110}


def test_threads_hide_what_stands_before_a_sequence() -> None:
    model = build()
    long, short = ids(100), ids(70)
    padded = np.concatenate([np.zeros((1, 30), np.int64), short], axis=1)
    read = reader_of(model, 3)
    both = read(np.concatenate([long, padded]), model.make_caches(2), np.asarray([0, 30]))
    alone = [model(tokens).data[0, -1] for tokens in (long, short)]
    np.testing.assert_allclose(both, alone, atol=2e-5)


def test_an_error_in_one_thread_ends_them_all() -> None:
    model = build()
    with pytest.raises(ValueError, match="room for 90 positions"):
        reader_of(model, 3)(ids(100), model.make_caches(1, 90))


class Doubled(Module):
    """A layer that the reader does not know."""

    def __call__(self, x: Tensor) -> Tensor:
        return x * 2.0


def test_a_foreign_layer_is_called_as_it_is() -> None:
    model = build()
    model.transformer.blocks[0].mlp = Doubled()
    model.transformer.blocks[1].mlp_norm = Doubled()
    caches, read = model.make_caches(1), model.reader()
    logits = [read(ids(6)[:, at : at + 1], caches)[0] for at in range(6)]
    np.testing.assert_allclose(logits, model(ids(6)).data[0], atol=2e-5)


class Louder(FeedForward):
    """A layer made of one that the reader knows."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2.0


class Adapted(Linear):
    """A product made of one that the reader knows."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) + x.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("place", ["mlp", "up_proj", "out_proj"])
def test_a_layer_of_a_derived_class_is_called_as_it_is(place: str) -> None:
    model, rng = build(), np.random.default_rng(3)
    block = model.transformer.blocks[0]
    if place == "mlp":
        block.mlp = Louder(16, 64, rng=rng)
    elif place == "up_proj":
        vars(block.mlp)["up_proj"] = Adapted(16, 64, rng=rng)
    else:
        vars(block.attention)["out_proj"] = Adapted(16, 16, rng=rng)
    for read in (model.reader(), reader_of(model, 1)):
        caches = model.make_caches(1)
        logits = [read(ids(6)[:, at : at + 1], caches)[0] for at in range(6)]
        np.testing.assert_allclose(logits, model(ids(6)).data[0], atol=2e-5)
        np.testing.assert_allclose(read(ids(6), model.make_caches(1))[0], logits[-1], atol=2e-5)


def test_weights_lie_side_by_side_from_a_cache_line_on() -> None:
    weights = [parameter.data for parameter in build().parameters()]
    assert all(array.ctypes.data % 64 == 0 for array in weights)
    assert len({id(array.base) for array in weights}) == 1


@pytest.mark.parametrize("changes", KINDS)
def test_a_reader_of_a_small_model_holds_the_weights_of_when_it_was_made(changes: dict[str, Any]) -> None:
    model = build(**changes)
    folded, as_it_is = model.reader(), reader_of(model, 1)
    before = folded(ids(3), model.make_caches(1))
    model.load_state_dict({name: np.zeros_like(array) for name, array in model.state_dict().items()})
    np.testing.assert_array_equal(folded(ids(3), model.make_caches(1)), before)
    for logits in (as_it_is(ids(3), model.make_caches(1)), model.reader()(ids(3), model.make_caches(1))):
        np.testing.assert_array_equal(logits, np.zeros((1, 19), np.float32))


@pytest.mark.parametrize("room", [None, 5000])  # one product for all heads, or one for each
def test_scores_beyond_the_range_of_exponentials_are_read_too(room: int | None) -> None:
    model = build(num_kv_heads=2)
    for block in model.transformer.blocks:
        vars(block.attention)["qkv_proj"].weight.data *= 40
    caches, read = model.make_caches(1, room), model.reader()
    assert isinstance(caches[0], RowCache) == (room is None)
    logits = [read(ids(30)[:, at : at + 1], caches)[0] for at in range(30)]
    np.testing.assert_allclose(logits, model(ids(30)).data[0], atol=2e-3)


def test_a_cache_in_rows_says_when_it_is_full_and_lasts_when_it_is_moved() -> None:
    model, tokens = build(), ids(4)
    caches, read = model.make_caches(1, 3), model.reader()
    logits = []
    for at in range(3):
        logits.append(read(tokens[:, at : at + 1], caches)[0])
        for cache in caches:
            cache.keep(np.asarray([0]))
    np.testing.assert_allclose(logits, model(tokens).data[0, :3], atol=2e-5)
    for cache in (caches[0], model.make_caches(1, 0)[0]):
        with pytest.raises(ValueError, match="the cache has room for"):
            read(tokens[:, 3:], [cache, caches[1]])
