"""Models with n-gram embeddings: prefixes and packed rows, folders, and trainings that resume or have several workers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, Trainer, TrainerConfig, preset
from axone.llm.adapters.adapter import Adapter

Build = Callable[..., LanguageModel]
KINDS = ("n-grams", "n-grams and layer norm")


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_prefix_gives_the_states_of_whole_sequences(kind: str, build: Build) -> None:
    model, ids = build(kind, np.float64), np.random.default_rng(2).integers(0, 19, (3, 7))
    for length in (1, 2, 5):
        prefix = np.random.default_rng(3).integers(0, 19, length)
        whole = np.concatenate([np.tile(prefix, (3, 1)), ids], axis=1)
        states = model.hidden(ids, prefix=prefix).data
        np.testing.assert_allclose(states, model.hidden(whole).data[:, length:], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_two_texts_in_one_row_have_the_states_of_each_alone(kind: str, build: Build) -> None:
    model, ids = build(kind, np.float64), np.random.default_rng(2).integers(0, 19, (2, 5))
    positions = np.tile(np.arange(5), 2)
    mask = np.kron(np.eye(2, dtype=bool), np.ones((5, 5), bool))[None, None]
    states = model.hidden(ids.reshape(1, 10), mask=mask, positions=positions).data
    np.testing.assert_allclose(states.reshape(2, 5, -1), model.hidden(ids).data, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("changes", [{"max_ngram": 3}, {"embedding_scale": 2.0}])
@pytest.mark.parametrize("shape", [LanguageModelConfig.llama, LanguageModelConfig.qwen3, LanguageModelConfig.gpt2])
def test_a_family_of_others_does_not_take_a_model_with_n_grams_or_a_scaled_embedding(
    shape: Callable[..., LanguageModelConfig], changes: dict[str, float], tmp_path: Path
) -> None:
    small = {"vocab_size": 19, "context_length": 8, "num_layers": 1, "num_heads": 2, "embed_dim": 8, "hidden_dim": 8}
    heads = {} if shape == LanguageModelConfig.gpt2 else {"num_kv_heads": 2, "head_dim": 4}
    model = LanguageModel(shape(**small, **heads, **changes), rng=np.random.default_rng(0)).eval()
    if model.ngram_embedding is not None:
        model.ngram_embedding.tables[1].data[...] = 0.1
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"] == "axone"
    ids = np.arange(6)[None]
    np.testing.assert_array_equal(LanguageModel.from_pretrained(tmp_path)(ids).data, model(ids).data)


def test_tables_have_no_more_rows_than_there_are_n_grams() -> None:
    config = replace(preset("default").model_config(20), max_ngram=4, ngram_rows=5000)
    assert config.ngram_tables == [400, 5000, 5000]
    assert replace(config, max_ngram=1).ngram_tables == []
    with pytest.raises(ValueError, match=r"^max_ngram \(0\) must be at least 1$"):
        replace(config, max_ngram=0)
    with pytest.raises(ValueError, match=r"^embed_dim \(128\) must be divisible by ngram_hashes \(3\)$"):
        replace(config, ngram_hashes=3)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_the_weights_by_rounding_only(dataset: TokenDataset, workers: int) -> None:
    shape = replace(preset("tiny").model_config(dataset.tokenizer.vocab_size), context_length=16, max_ngram=3)
    weights = []
    for count in (1, workers):
        model = LanguageModel(shape, rng=np.random.default_rng(0))
        config = TrainerConfig(steps=10, batch_size=6, context_length=16, optimizer="sgd", workers=count)
        Trainer(model, *dataset.split(), config).fit()
        assert model.ngram_embedding is not None
        assert all(table.data.any() for table in model.ngram_embedding.tables)
        weights.append(np.concatenate([table.data.ravel() for table in model.ngram_embedding.tables]))
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-6)


def test_an_adapter_leaves_the_vectors_of_n_grams_frozen(build: Build) -> None:
    model = build("n-grams")
    Adapter.add(model, rank=2)
    assert model.ngram_embedding is not None
    assert not any(table.requires_grad for table in model.ngram_embedding.tables)
