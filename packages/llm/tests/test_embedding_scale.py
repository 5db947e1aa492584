"""Models whose token embedding has a factor at the input: their twin without one, and int8 weights."""

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
