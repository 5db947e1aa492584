"""Models whose token embedding has a factor at the input: their twin without one, their folders, and int8 weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig

Build = Callable[..., LanguageModel]
IDS = np.random.default_rng(2).integers(0, 19, (2, 6))


def test_a_model_with_a_larger_embedding_and_an_output_layer_of_its_own_is_its_twin(build: Build) -> None:
    model = build("scaled embedding", np.float64)
    twin = LanguageModel(replace(model.config, embedding_scale=1.0, tie_embeddings=False)).astype(np.float64).eval()
    weights = model.state_dict()
    head = weights["embedding.weight"]
    twin.load_state_dict({**weights, "embedding.weight": model.config.embedding_scale * head, "head.weight": head})
    np.testing.assert_allclose(model(IDS).data, twin(IDS).data, rtol=1e-12)


@pytest.mark.parametrize("shape", [LanguageModelConfig.llama, LanguageModelConfig.qwen3, LanguageModelConfig.gpt2])
def test_no_family_of_others_takes_it(shape: Callable[..., LanguageModelConfig], tmp_path: Path) -> None:
    small = {"vocab_size": 19, "context_length": 8, "num_layers": 1, "num_heads": 2, "embed_dim": 8, "hidden_dim": 8}
    heads = {} if shape == LanguageModelConfig.gpt2 else {"num_kv_heads": 2, "head_dim": 4}
    model = LanguageModel(shape(**small, **heads, embedding_scale=2.0), rng=np.random.default_rng(0)).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"] == "axone"
    np.testing.assert_array_equal(LanguageModel.from_pretrained(tmp_path)(IDS).data, model(IDS).data)


def test_it_decodes_with_int8_weights_as_it_computes_whole_sequences(build: Build, tmp_path: Path) -> None:
    build("scaled embedding").save_pretrained(tmp_path)
    model = LanguageModel.from_pretrained(tmp_path, weights="int8").eval()
    with model.decoder(workers=1) as decode:
        logits = decode(IDS, model.make_caches(len(IDS)), last_only=False)
    np.testing.assert_allclose(logits, model(IDS).data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_factor_must_be_positive(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^embedding_scale \(.*\) must be positive and finite$"):
        replace(LanguageModelConfig.gpt2(), embedding_scale=scale)
