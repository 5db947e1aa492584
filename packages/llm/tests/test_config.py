"""LanguageModelConfig: checks of its fields, defaults, and the families."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, count_parameters
from axone.llm.generation.generate import generate
from axone.nn import Llama3Scaling

SHAPE = LanguageModelConfig(vocab_size=19, context_length=16, num_layers=2, num_heads=4, embed_dim=16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_layers": 0}, "num_layers (0) must be at least 1"),
        ({"head_dim": 0}, "head_dim (0) must be at least 1"),
        ({"embed_dim": 15}, "embed_dim (15) must be divisible by num_heads (4)"),
        ({"num_kv_heads": 3}, "num_heads (4) must be divisible by num_kv_heads (3)"),
        ({"num_kv_heads": 0}, "num_kv_heads (0) must be at least 1"),
        ({"dropout": 1.0}, "dropout (1.0) must be in [0, 1)"),
        ({"ngram_dropout": 1.0}, "ngram_dropout (1.0) must be in [0, 1)"),
        ({"norm": "batch"}, "norm ('batch') must be 'layer' or 'rms'"),
        ({"norm": None}, "norm (None) must be 'layer' or 'rms'"),
        ({"norm_eps": 0.0}, "norm_eps (0.0) must be positive and finite"),
        ({"rope_theta": float("inf")}, "rope_theta (inf) must be positive and finite"),
        ({"embed_dim": 12, "position": "rotary"}, "the width of a head (3) must be even for rotary positions"),
        ({"rope_scaling": Llama3Scaling()}, "rope_scaling must be None unless position is 'rotary'"),
    ],
)
def test_a_configuration_out_of_range_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        dataclasses.replace(SHAPE, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": "65"}, "vocab_size ('65') must be a whole number"),
        ({"vocab_size": True}, "vocab_size (True) must be a whole number"),
        ({"embed_dim": None}, "embed_dim (None) must be a whole number"),
        ({"head_dim": 4.0}, "head_dim (4.0) must be a whole number or None"),
        ({"dropout": "none"}, "dropout ('none') must be a number"),
        ({"qk_norm": 1}, "qk_norm (1) must be True or False"),
        ({"bias": "no"}, "bias ('no') must be True or False"),
        ({"tie_embeddings": None}, "tie_embeddings (None) must be True or False"),
        ({"qkv_bias": 0}, "qkv_bias (0) must be True or False or None"),
        ({"rope_scaling": {"factor": 8.0}}, "rope_scaling ({'factor': 8.0}) must be Llama3Scaling or None"),
    ],
)
def test_a_field_of_another_type_is_refused(change: dict[str, Any], reason: str) -> None:
    """A flag such as qk_norm=1 was trained with, and then every checkpoint of the run was refused."""
    with pytest.raises(TypeError, match=f"^{re.escape(reason)}$"):
        dataclasses.replace(SHAPE, **change)


def test_numbers_and_flags_of_numpy_become_those_of_python() -> None:
    given: dict[str, Any] = {"embed_dim": np.int64(32), "dropout": np.float32(0.5), "bias": np.bool_(False)}
    changed = dataclasses.replace(SHAPE, **given)
    assert [type(getattr(changed, name)) for name in given] == [int, float, bool]


def test_defaults_follow_the_fields_that_they_depend_on() -> None:
    assert (SHAPE.kv_heads, SHAPE.head_width, SHAPE.mlp_dim, SHAPE.has_qkv_bias) == (4, 4, 64, True)
    changed = dataclasses.replace(SHAPE, num_heads=2, embed_dim=32, bias=False, mlp="swiglu")
    assert (changed.kv_heads, changed.head_width, changed.mlp_dim, changed.has_qkv_bias) == (2, 16, 96, False)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (LanguageModelConfig.gpt2(), 124_439_808),
        (LanguageModelConfig.llama(), 1_235_814_400),
        (LanguageModelConfig.qwen2(), 494_032_768),
        (LanguageModelConfig.qwen3(), 596_049_920),
    ],
)
def test_a_family_has_as_many_parameters_as_its_published_model(config: LanguageModelConfig, parameters: int) -> None:
    assert count_parameters(config) == parameters


TINY: dict[str, Any] = {"vocab_size": 19, "context_length": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
FAMILIES = {
    "llama": LanguageModelConfig.llama(**TINY, embed_dim=16, hidden_dim=24),
    "qwen2": LanguageModelConfig.qwen2(**TINY, embed_dim=16, hidden_dim=24),
    "qwen3": LanguageModelConfig.qwen3(**TINY, embed_dim=16, hidden_dim=24, head_dim=6),
    "bias without qkv_bias": dataclasses.replace(SHAPE, qkv_bias=False),
    "learned positions, head_dim": dataclasses.replace(SHAPE, head_dim=6),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_a_family_is_built_generates_and_round_trips(config: LanguageModelConfig, tmp_path: Any) -> None:
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():  # biases and gains, too
        parameter.data[...] = rng.normal(size=parameter.shape) / 2
    assert count_parameters(config) == model.num_parameters()
    assert ("transformer.blocks.0.attention.qkv_proj.bias" in model.state_dict()) == config.has_qkv_bias
    prompt = [3, 1, 4]
    ids = list(generate(model, prompt, max_new_tokens=10, temperature=0.0))
    for position, id in enumerate(ids):
        assert model(np.array([prompt + ids[:position]])).data[0, -1].argmax() == id
    model.save_pretrained(tmp_path)
    read = LanguageModel.from_pretrained(tmp_path)
    assert read.config == config
    np.testing.assert_array_equal(read(np.array([prompt])).data, model(np.array([prompt])).data)


def test_rotary_scaling_reaches_the_angles() -> None:
    near = LanguageModelConfig.llama(**TINY, embed_dim=16, rope_scaling=None)
    far = dataclasses.replace(near, rope_scaling=Llama3Scaling(original_context_length=8))
    first, second = (
        LanguageModel(config, rng=np.random.default_rng(0))(np.arange(16)[None]).data for config in (near, far)
    )
    assert not np.allclose(first, second)
