"""Models with int8 weights: they compute what the float32 model of the rounded matrices computes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Adapter,
    LanguageModel,
    LanguageModelConfig,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    generate,
    load,
    next_token_loss,
    open_bundle,
    perplexity,
    save_gguf,
    save_pretrained,
    train_last_blocks,
)
from axone.llm.errors import CheckpointError
from axone.llm.quantization import int8_layers
from axone.nn import Embedding, Int8Embedding, Linear
from axone.nn.extend import Int8Weight
from axone.tokenizer import BPETokenizer, CharTokenizer

Build = Callable[..., LanguageModel]
IDS = np.random.default_rng(2).integers(0, 19, 40).tolist()
TOKENIZER = CharTokenizer.train("abcdefghijklmnopqrs")


def rounded(model: LanguageModel) -> LanguageModel:
    """Round the matrices of a float32 model in place, as int8 weights do."""
    for layer in model.modules():
        if layer is model.embedding or isinstance(layer, Linear):
            assert isinstance(layer, (Linear, Embedding))
            layer.weight.data[...] = Int8Weight.quantized(layer.weight.data).dense()
    return model


@pytest.fixture
def pair(kind: str, build: Build, tmp_path: Path) -> tuple[LanguageModel, LanguageModel]:
    """Return a model that was opened with int8 weights, and the float32 model of the rounded matrices."""
    model = build(kind)
    save_pretrained(tmp_path, model, TOKENIZER)
    return load(tmp_path, weights="int8")[0], rounded(load(tmp_path)[0])


def test_logits_are_those_of_the_rounded_matrices(pair: tuple[LanguageModel, LanguageModel]) -> None:
    model, expected = pair
    ids = np.asarray([IDS[:12], IDS[12:24]])
    np.testing.assert_allclose(model(ids).data, expected(ids).data, atol=1e-4)
    assert perplexity(model, np.asarray(IDS)) == pytest.approx(perplexity(expected, np.asarray(IDS)), rel=1e-4)
    assert not model.training


def test_matrices_are_int8_and_all_else_is_float32(pair: tuple[LanguageModel, LanguageModel]) -> None:
    model, expected = pair
    linear = sum(isinstance(layer, Linear) for layer in expected.modules())
    assert len(int8_layers(model)) == linear + 1  # the embedding
    assert not any(isinstance(layer, Linear) for layer in model.modules())
    assert model.num_parameters() == expected.num_parameters()
    assert all(parameter.dtype == np.float32 for parameter in model.parameters())
    embedding: object = model.embedding
    assert isinstance(embedding, Int8Embedding)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
def test_tokens_are_the_same_for_any_number_of_processes(
    forked: list[int], pair: tuple[LanguageModel, LanguageModel]
) -> None:
    model, expected = pair
    alone = list(generate(model, IDS[:5], max_new_tokens=20, temperature=0, workers=1))
    assert not forked
    assert list(generate(model, IDS[:5], max_new_tokens=20, temperature=0)) == alone
    assert list(generate(model, IDS[:5], max_new_tokens=20, temperature=0, draft="prompt")) == alone
    assert list(generate(expected, IDS[:5], max_new_tokens=20, temperature=0)) == alone


def test_logits_of_a_decoder_are_those_of_a_call(forked: list[int], pair: tuple[LanguageModel, LanguageModel]) -> None:
    model, _ = pair
    ids = np.asarray([IDS[:12], IDS[12:24], IDS[24:36]])
    whole = model(ids).data
    for batch in (1, 3):
        caches = model.make_caches(batch)
        with model.decoder() as decode:
            np.testing.assert_allclose(decode(ids[:batch, :5], caches), whole[:batch, 4], atol=1e-4)
            for at in range(5, 12):
                logits = decode(ids[:batch, at : at + 1], caches)
                np.testing.assert_allclose(logits, whole[:batch, at], atol=1e-4)
    assert len(forked) in {0, 1, 2}  # one key head is not divided


def test_a_bundle_of_int8_weights_has_a_quarter_of_the_bytes(build: Build, tmp_path: Path) -> None:
    save_pretrained(tmp_path, build("llama", embed_dim=256, num_heads=8), TOKENIZER)
    sizes = [open_bundle(tmp_path, weights=weights).num_bytes for weights in ("int8", "float32")]
    assert 0.25 < sizes[0] / sizes[1] < 0.27


def test_a_gguf_file_opens_with_int8_weights(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train("low lower lowest " * 9, 264)
    config = LanguageModelConfig.llama(
        vocab_size=264, context_length=16, num_layers=2, num_heads=2, num_kv_heads=1, embed_dim=32, hidden_dim=64
    )
    save_gguf(tmp_path / "model.gguf", LanguageModel(config, rng=np.random.default_rng(0)), tokenizer, dtype="f32")
    model, expected = load(tmp_path / "model.gguf", weights="int8")[0], rounded(load(tmp_path / "model.gguf")[0])
    ids = np.asarray([IDS[:12]])
    np.testing.assert_allclose(model(ids).data, expected(ids).data, atol=1e-5)
    generator = TextGenerator(model, tokenizer)
    assert len(generator.complete(["low", "lower"], max_new_tokens=5, temperature=0, stop_ids=())) == 2


def test_other_formats_are_refused(build: Build, tmp_path: Path) -> None:
    save_pretrained(tmp_path, build(), TOKENIZER)
    wrong: Any = "int4"
    for call in (load, open_bundle, LanguageModel.from_pretrained):
        with pytest.raises(ValueError, match=r"weights \('int4'\) must be 'float32' or 'int8'"):
            call(tmp_path, weights=wrong)


def test_a_model_with_int8_weights_is_not_written_trained_or_adapted(build: Build, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", build("llama"), TOKENIZER)
    model, tokenizer = load(tmp_path / "model", weights="int8")
    with pytest.raises(ValueError, match="a model with int8 weights cannot be written: load it with float32 weights"):
        save_pretrained(tmp_path / "other", model, tokenizer)
    assert not (tmp_path / "other" / "model.safetensors").exists()
    data, trainer = (
        TokenDataset.from_text("abc" * 99, TOKENIZER),
        TrainerConfig(steps=1, batch_size=1, context_length=4),
    )
    for train in (
        lambda: Adapter.add(model, rank=2),
        lambda: Adapter.load(model, tmp_path / "adapter"),
        lambda: train_last_blocks(model, 1),
        lambda: Trainer(model, data, data, trainer),
    ):
        with pytest.raises(
            ValueError, match="a model with int8 weights cannot be trained: load it with float32 weights"
        ):
            train()
    with pytest.raises(RuntimeError, match="int8 weights have no gradients"):
        next_token_loss(model, np.asarray([IDS[:6]]), np.asarray([IDS[1:7]])).backward()
    with pytest.raises(ValueError, match=r"weights \('int8'\) must be 'float32' for a model with an adapter"):
        open_bundle(tmp_path / "model", adapter=tmp_path / "adapter", weights="int8")


def test_a_damaged_file_is_refused_as_with_float32_weights(build: Build, tmp_path: Path) -> None:
    save_pretrained(tmp_path, build(), TOKENIZER)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load(tmp_path, weights="int8")
