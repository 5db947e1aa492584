import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import no_grad
from axone.autograd.extend import Array
from axone.llm import CheckpointError, LanguageModel, LanguageModelConfig, NotEnoughMemoryError
from axone.llm.storage.safetensors import read_arrays, write_arrays
from axone.nn import Llama3Scaling

FAMILIES = Path(__file__).parent / "frozen/families"
NAMES = sorted(path.name for path in FAMILIES.iterdir())
ROTARY: dict[str, Any] = {
    "vocab_size": 19, "context_length": 16, "num_layers": 2, "num_heads": 4, "embed_dim": 16, "norm": "rms",
    "position": "rotary", "mlp": "swiglu", "bias": False,
}  # fmt: skip


def logits(model: LanguageModel) -> Array:
    with no_grad():
        first: Array = model(np.arange(12)[None] % 29).data[0]
    return first


def edited(folder: Path, name: str, **changes: Any) -> Path:
    """Return a copy of a frozen folder with changes in its configuration; None removes a field."""
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(FAMILIES / name, folder / name)
    path = folder / name / "config.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: v for key, v in content.items() if v is not None}), encoding="utf-8")
    return folder / name


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        LanguageModel.from_pretrained(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_models_of_every_family_give_the_logits_of_transformers(name: str) -> None:
    model = LanguageModel.from_pretrained(FAMILIES / name)
    expected = np.load(FAMILIES / name / "logits.npy")
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    np.testing.assert_allclose(logits(model.astype(np.float64)), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_written_as_its_own_family_and_tensor_by_tensor_as_it_was_read(name: str, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(FAMILIES / name)
    model.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.eos_ids == model.eos_ids
    before, after = (json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (FAMILIES / name, tmp_path))
    assert after["model_type"] == before["model_type"]
    written = read_arrays(tmp_path / "model.safetensors")
    for shard in FAMILIES.glob(f"{name}/*.safetensors"):
        for tensor, array in read_arrays(shard).items():
            np.testing.assert_array_equal(written.pop(tensor), array.astype(np.float32))
    assert not written


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({}, "llama"),
        ({"bias": True, "num_kv_heads": 2}, "llama"),
        ({"head_dim": 6, "hidden_dim": 24, "rope_scaling": Llama3Scaling(factor=2.0), "dropout": 0.1}, "llama"),
        ({"qkv_bias": True, "tie_embeddings": False}, "qwen2"),
        ({"qk_norm": True, "norm_eps": 1e-6, "head_dim": 6}, "qwen3"),
        ({"qk_norm": True, "norm_eps": 1e-5}, "axone"),
        ({"qkv_bias": True, "head_dim": 6}, "axone"),
        ({"qkv_bias": True, "qk_norm": True}, "axone"),
        ({"mlp": "relu2"}, "axone"),
    ],
)
def test_a_configuration_is_written_in_the_words_of_the_first_family_that_can_express_it(
    changes: dict[str, Any], family: str, tmp_path: Path
) -> None:
    model = LanguageModel(LanguageModelConfig(**{**ROTARY, **changes}), rng=np.random.default_rng(0)).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"] == family
    again = LanguageModel.from_pretrained(tmp_path)
    assert again.config == model.config
    np.testing.assert_array_equal(again(np.arange(12)[None]).data, model(np.arange(12)[None]).data)


def test_the_older_spelling_of_rotary_options_is_read(tmp_path: Path) -> None:
    rope = json.loads((FAMILIES / "llama3/config.json").read_text(encoding="utf-8"))["rope_parameters"]
    theta = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    for scaling in ({"rope_type": kind, **rope}, {"type": kind, **rope}):
        old = edited(tmp_path, "llama3", rope_parameters=None, rope_theta=theta, rope_scaling=scaling)
        np.testing.assert_allclose(
            logits(LanguageModel.from_pretrained(old)), np.load(FAMILIES / "llama3/logits.npy"), atol=1e-5
        )
    nested = {"full_attention": {"rope_theta": theta, "rope_type": kind, **rope}}
    again = LanguageModel.from_pretrained(edited(tmp_path, "llama3", rope_parameters=nested))
    np.testing.assert_allclose(logits(again), np.load(FAMILIES / "llama3/logits.npy"), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("llama", {"model_type": "mamba"}, "model_type is 'mamba'"),
        ("llama", {"rope_parameters": None}, "rope_theta is nowhere"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ("llama", {"rope_parameters": [1]}, "rope_parameters must be a JSON object"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved is True"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias is true alone"),
        ("llama", {"mlp_bias": True}, "mlp_bias is true alone"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": ["llama3"]}}, "rope_type is ['llama3']"),
        ("llama", {"head_dim": 1 << 40}, "channels of all heads, and no tensor has so many elements"),
        ("llama", {"intermediate_size": 1 << 40}, "channels of a feed-forward layer, and no tensor has so many"),
        ("llama", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ("llama", {"num_key_value_heads": 3}, "must be divisible by num_kv_heads"),
        ("llama", {"eos_token_id": "<eos>"}, "eos_token_id must be a token id"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("qwen3", {"attention_bias": True}, "attention_bias is true alone"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ],
)
def test_options_that_are_not_computed_exactly_are_refused_by_name(
    name: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(edited(tmp_path, name, **changes))


@pytest.mark.parametrize(("name", "embedding"), [("gpt2", "transformer.wte"), ("llama", "model.embed_tokens")])
@pytest.mark.parametrize("tied", [True, None])
def test_a_head_beside_a_tied_embedding_is_kept_where_it_differs(
    name: str, embedding: str, tied: bool | None, tmp_path: Path
) -> None:
    folder = edited(tmp_path, name, tie_word_embeddings=tied)
    arrays = read_arrays(folder / "model.safetensors")
    weight = arrays[f"{embedding}.weight"]
    write_arrays(folder / "model.safetensors", {**arrays, "lm_head.weight": 2 * weight})
    model = LanguageModel.from_pretrained(folder)
    assert not model.config.tie_embeddings
    np.testing.assert_allclose(logits(model), 2 * np.load(FAMILIES / name / "logits.npy"), atol=1e-5)
    write_arrays(folder / "model.safetensors", {**arrays, "lm_head.weight": weight})
    np.testing.assert_allclose(
        logits(LanguageModel.from_pretrained(folder)), np.load(FAMILIES / name / "logits.npy"), atol=1e-5
    )


def test_a_head_of_another_shape_beside_a_tied_embedding_is_refused(tmp_path: Path) -> None:
    """It was left out, and the logits were those of the embedding."""
    folder = edited(tmp_path, "gpt2", tie_word_embeddings=True)
    arrays = read_arrays(folder / "model.safetensors")
    write_arrays(folder / "model.safetensors", {**arrays, "lm_head.weight": np.ones((3, 4), np.float32)})
    with pytest.raises(CheckpointError, match=r"lm_head.weight must have shape \(\d+, \d+\) and has \(3, 4\)"):
        LanguageModel.from_pretrained(folder)


@pytest.mark.parametrize("rate", ["x", True, -0.1, 1.0, [0.1]])
def test_a_dropout_rate_that_is_none_is_refused(rate: object, tmp_path: Path) -> None:
    folder = edited(tmp_path, "gpt2", embd_pdrop=rate)
    with pytest.raises(CheckpointError, match=r"a dropout rate \(.+\) must be a number in"):
        LanguageModel.from_pretrained(folder)


def test_dropout_rates_that_differ_are_read_as_none_with_a_warning(tmp_path: Path) -> None:
    for rates in ({"attn_pdrop": 0.1}, {"embd_pdrop": 0.1, "resid_pdrop": 0.2}):
        folder = edited(tmp_path / "edited", "gpt2", **rates)
        with pytest.warns(UserWarning, match="the model is read without dropout") as caught:
            assert LanguageModel.from_pretrained(folder).config.dropout == 0
        assert caught[0].filename == __file__
    own = LanguageModelConfig(vocab_size=19, context_length=8, num_layers=1, num_heads=2, embed_dim=8, dropout=0.25)
    LanguageModel(own).save_pretrained(tmp_path)
    assert LanguageModel.from_pretrained(tmp_path).config.dropout == 0.25


def test_the_ids_that_end_a_text_are_those_of_both_configurations(tmp_path: Path) -> None:
    folder = edited(tmp_path, "llama", eos_token_id=[2, 5])
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 7]}', encoding="utf-8")
    assert LanguageModel.from_pretrained(folder).eos_ids == (2, 5, 7)
    (folder / "generation_config.json").write_text("{not JSON", encoding="utf-8")
    assert LanguageModel.from_pretrained(folder).eos_ids == (2, 5)
    assert LanguageModel.from_pretrained(edited(tmp_path, "llama", eos_token_id=50256)).eos_ids == (2,)


def test_a_float64_model_comes_back_as_float64(tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(FAMILIES / "llama").astype(np.float64)
    next(model.parameters()).data[...] += 1e-12
    model.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
        assert again.state_dict()[name].dtype == np.float64


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "a\0.safetensors", "weights.bin", ""]
)
def test_an_index_that_leaves_the_folder_is_refused(shard: str, tmp_path: Path) -> None:
    folder = edited(tmp_path, "llama-shards")
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}), encoding="utf-8")
    assert "not a file name in this folder" in refusal(folder)


def test_damaged_shards_and_indices_are_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path, "llama-shards")
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shard = folder / "model-00002-of-00005.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert "not a safetensors file" in refusal(folder)
    shard.unlink()
    assert "cannot be read" in refusal(folder)
    shutil.copyfile(folder / "model-00001-of-00005.safetensors", shard)
    assert "is in model-00001-of-00005.safetensors too" in refusal(folder)
    index["weight_map"] = ["x"]
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "weight_map must be an object" in refusal(folder)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    folder = edited(tmp_path, "llama")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "is a pickle, which can run any code" in refusal(folder)


def test_weights_that_memory_does_not_hold_are_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("axone.llm.model.available_memory", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"the weights of .*llama need 0 MB of memory, and 0 MB are free"):
        LanguageModel.from_pretrained(FAMILIES / "llama")


@pytest.mark.skipif(os.name == "nt", reason="making links takes a privilege on Windows")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json", "tokenizer.json"])
def test_a_link_that_leaves_the_model_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = edited(tmp_path, "llama")
    (tmp_path / "elsewhere").write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert f"{name}: is a link that leaves the model's folder" in refusal(folder)


@pytest.mark.skipif(os.name == "nt", reason="making links takes a privilege on Windows")
def test_a_snapshot_of_hugging_faces_cache_is_read_through_its_own_links(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in edited(tmp_path, "llama").iterdir():
        shutil.move(path, blobs / f"sum-of-{path.name}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"sum-of-{path.name}")
    np.testing.assert_allclose(
        logits(LanguageModel.from_pretrained(snapshot)), np.load(FAMILIES / "llama/logits.npy"), atol=1e-5
    )
