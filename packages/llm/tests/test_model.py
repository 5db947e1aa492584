"""The language model: shapes, initial loss, cache, folders."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import CheckpointError, LanguageModel, LanguageModelConfig, count_parameters, cross_entropy
from axone.llm.loss import next_token_loss
from axone.llm.storage.safetensors import read_arrays, write_arrays


@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_model_knows_nothing(config: LanguageModelConfig, tied: bool) -> None:
    model = LanguageModel(dataclasses.replace(config, tie_embeddings=tied), rng=np.random.default_rng(0))
    ids = np.arange(32).reshape(2, 16) % config.vocab_size
    logits = model(ids)
    assert logits.shape == (2, 16, config.vocab_size)
    # Logits of deviation 0.554 cost half their variance above the logarithm of the vocabulary.
    expected = math.log(config.vocab_size) + 0.554**2 / 2
    assert cross_entropy(logits, np.roll(ids, 7)).item() == pytest.approx(expected, rel=0.05)


def test_gpt2_has_124_million_parameters() -> None:
    config = LanguageModelConfig.gpt2()
    blocks = 12 * config.embed_dim**2 + 13 * config.embed_dim
    assert (
        config.vocab_size * config.embed_dim
        + config.context_length * config.embed_dim
        + config.num_layers * blocks
        + 2 * config.embed_dim
    ) == 124_439_808
    small = LanguageModelConfig.gpt2(vocab_size=10, context_length=4, num_layers=1, num_heads=2, embed_dim=8)
    assert LanguageModel(small).num_parameters() == 80 + 32 + 12 * 64 + 13 * 8 + 16


def test_a_position_sees_only_itself_and_those_before(model: LanguageModel) -> None:
    ids = np.zeros((1, 16), np.int64)
    changed = ids.copy()
    changed[0, 10:] = 1
    np.testing.assert_allclose(model(ids).data[0, :10], model(changed).data[0, :10], atol=1e-6)
    assert np.abs(model(ids).data[0, 10:] - model(changed).data[0, 10:]).max() > 1e-3


def test_too_many_positions_are_refused(model: LanguageModel) -> None:
    with pytest.raises(
        ValueError, match="position 16 must be below 16, the number of learned positions: shorten the input"
    ):
        model(np.zeros((1, 17), np.int64))


SHAPES: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"tie_embeddings": False},
    {"hidden_dim": 24, "norm_eps": 1e-6, "dropout": 0.1},
    {"norm": "rms"},
    {"position": "rotary", "rope_theta": 500.0},
    {"mlp": "swiglu"},
    {"mlp": "relu2", "bias": False},
    {"qk_norm": True},
    {"num_kv_heads": 1},
    {"norm": "rms", "position": "rotary", "mlp": "swiglu", "qk_norm": True, "bias": False, "tie_embeddings": False},
]


@pytest.mark.parametrize("changes", SHAPES)
def test_parameters_are_counted_without_building_them(config: LanguageModelConfig, changes: dict[str, Any]) -> None:
    for num_layers in (1, 5):
        config = dataclasses.replace(config, num_layers=num_layers, **changes)
        assert count_parameters(config) == LanguageModel(config).num_parameters()
    assert count_parameters(dataclasses.replace(config, num_layers=10**9, **changes)) > 10**12
    with pytest.raises(ValueError, match="a parameter of this configuration is larger than any array can be"):
        count_parameters(dataclasses.replace(config, vocab_size=1 << 62))


@pytest.mark.parametrize("changes", SHAPES)
def test_a_model_folder_gives_the_same_model_back(
    config: LanguageModelConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = LanguageModel(dataclasses.replace(config, **changes), rng=np.random.default_rng(1)).eval()
    rng = np.random.default_rng(2)
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape)
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    plain = not {"norm", "position", "mlp", "qk_norm", "num_kv_heads"} & set(changes)
    assert content["model_type"] == ("gpt2" if plain else "axone")
    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config == model.config
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    ids = np.arange(16)[None] % config.vocab_size
    np.testing.assert_array_equal(again(ids).data, model(ids).data)


@pytest.mark.parametrize("changes", SHAPES)
def test_every_shape_learns_and_reads_nothing_ahead(config: LanguageModelConfig, changes: dict[str, Any]) -> None:
    model = LanguageModel(dataclasses.replace(config, **changes), rng=np.random.default_rng(0)).eval()
    ids = np.arange(16)[None] % 7
    changed = ids.copy()
    changed[0, 10:] = 8
    np.testing.assert_allclose(model(ids).data[0, :10], model(changed).data[0, :10], atol=1e-5)
    loss = next_token_loss(model.train(), ids, np.roll(ids, -1))
    loss.backward()
    assert all(p.grad is not None and np.abs(p.grad).max() > 0 for p in model.parameters())


def test_a_bias_that_the_configuration_denies_is_refused(config: LanguageModelConfig, tmp_path: Path) -> None:
    LanguageModel(config).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**content, "axone": {"bias": False}}), encoding="utf-8")
    arrays = dict(read_arrays(tmp_path / "model.safetensors"))
    assert LanguageModel.from_pretrained(tmp_path).config.bias is False
    arrays["transformer.h.1.ln_2.bias"] += 1
    write_arrays(tmp_path / "model.safetensors", arrays)
    with pytest.raises(CheckpointError, match=r"transformer\.h\.1\.ln_2\.bias must be zero"):
        LanguageModel.from_pretrained(tmp_path)


def test_names_without_a_prefix_masks_and_tied_heads_are_read(model: LanguageModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    arrays = {name.removeprefix("transformer."): a for name, a in read_arrays(tmp_path / "model.safetensors").items()}
    mask = np.tril(np.ones((1, 1, 16, 16), np.float32))
    old = {
        **arrays,
        "h.0.attn.bias": mask,
        "h.0.attn.masked_bias": np.float32(-1e4),
        "lm_head.weight": arrays["wte.weight"],
    }
    write_arrays(tmp_path / "model.safetensors", {name: np.asarray(array) for name, array in old.items()})
    again = LanguageModel.from_pretrained(tmp_path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    write_arrays(tmp_path / "model.safetensors", {**arrays, "transformer.wte.weight": arrays["wte.weight"]})
    with pytest.raises(CheckpointError, match=r"wte\.weight appears twice"):
        LanguageModel.from_pretrained(tmp_path)


def test_a_model_of_another_kind_is_refused_by_name(model: LanguageModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for change, reason in (
        ({"model_type": "bloom"}, "model_type"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"n_layer": 0}, r"num_layers \(0\) must be at least 1"),
        ({"n_layer": "two"}, r"n_layer \('two'\) must be a whole number"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=reason):
            LanguageModel.from_pretrained(tmp_path)


def test_missing_and_extra_weights_are_all_named(model: LanguageModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**content, "n_layer": 3}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"h\.2\.ln_1\.weight is missing.*h\.2\.mlp\.c_proj\.bias is missing"):
        LanguageModel.from_pretrained(tmp_path)


def test_a_model_that_was_read_drops_out_like_a_fresh_one(tmp_path: Path) -> None:
    config = LanguageModelConfig(vocab_size=19, context_length=8, num_layers=1, num_heads=2, embed_dim=16, dropout=0.5)
    fresh = LanguageModel(config, rng=np.random.default_rng(5))
    fresh.save_pretrained(tmp_path)
    model, ids = LanguageModel.from_pretrained(tmp_path), np.arange(8)[None]
    np.testing.assert_array_equal(model(ids).data, fresh.eval()(ids).data)
    model.train()
    assert not np.array_equal(model(ids).data, model(ids).data)
