import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import no_grad
from axone.autograd.extend import Array
from axone.llm import CheckpointError, LanguageModel, LanguageModelConfig
from axone.llm.pretrained.gguf.model import save_model
from axone.llm.pretrained.gguf.quantization import F32
from axone.llm.pretrained.gguf.reader import GGUFFile
from axone.llm.pretrained.gguf.writer import write_gguf
from axone.nn import Llama3Scaling

FROZEN = Path(__file__).parent / "frozen"
FILES = sorted((FROZEN / "gguf_models").iterdir())
NAMES = [path.stem for path in FILES]
LLAMA: dict[str, Any] = {
    "vocab_size": 40, "context_length": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "embed_dim": 32,
    "hidden_dim": 64, "norm": "rms", "position": "rotary", "mlp": "swiglu", "bias": False,
}  # fmt: skip


def logits(model: LanguageModel) -> Array:
    with no_grad():
        first: Array = model(np.arange(12)[None] % 29).data[0]
    return first


def rewritten(path: Path, to: Path, metadata: dict[str, Any], tensors: dict[str, Array] | None = None) -> Path:
    """Write a file again with changes: metadata that is None is removed."""
    with GGUFFile(path) as file:
        arrays = {name: np.empty(info.shape, np.float32) for name, info in file.tensors.items()}
        for name, array in arrays.items():
            file.read(name, array)
        kept = {**file.metadata, **metadata}
    for key, value in metadata.items():
        if value is None:
            del kept[key]
    write_gguf(to, kept, {name: (F32, array) for name, array in {**arrays, **(tensors or {})}.items()})
    return to


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_gguf_package_gives_the_weights_of_its_folder(name: str) -> None:
    model = LanguageModel.from_pretrained(FROZEN / "gguf_models" / f"{name}.gguf")
    folder = LanguageModel.from_pretrained(FROZEN / "families" / name)
    for parameter, array in folder.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[parameter], array)
    np.testing.assert_allclose(logits(model), np.load(FROZEN / "families" / name / "logits.npy"), atol=1e-5)
    assert model.eos_ids == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_a_written_file_holds_the_tensors_that_the_gguf_package_wrote(name: str, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(FROZEN / "families" / name)
    save_model(tmp_path / "m.gguf", model.config, model.state_dict(), dtype="f32")
    with GGUFFile(tmp_path / "m.gguf") as ours, GGUFFile(FROZEN / "gguf_models" / f"{name}.gguf") as theirs:
        assert {n: i.shape for n, i in ours.tensors.items()} == {n: i.shape for n, i in theirs.tensors.items()}
        for tensor, info in ours.tensors.items():
            one, other = np.empty((2, *info.shape), np.float32)
            ours.read(tensor, one)
            theirs.read(tensor, other)
            np.testing.assert_allclose(one, other, rtol=1e-6)
        for key, value in theirs.metadata.items():
            if key.startswith(("llama.", "qwen", "general.arch", "general.file_type")):
                assert ours.metadata[key] == pytest.approx(value), key


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": True, "tie_embeddings": False},
        {"rope_scaling": Llama3Scaling(factor=32.0), "rope_theta": 5e5},
        {"rope_scaling": Llama3Scaling(factor=8.0, low_freq_factor=2.0, original_context_length=1024)},
        {"qkv_bias": True},
        {"qk_norm": True, "norm_eps": 1e-6, "head_dim": 16},
        {"hidden_dim": 40},
    ],
)
def test_a_model_comes_back_from_the_file_that_was_written(changes: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    config = LanguageModelConfig(**{**LLAMA, **changes})
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    save_model(tmp_path / "m.gguf", config, model.state_dict(), dtype=dtype)
    again = LanguageModel.from_pretrained(tmp_path / "m.gguf")
    head_dim = None if config.head_width * config.num_heads == config.embed_dim else config.head_width
    assert dataclasses.replace(again.config, head_dim=head_dim) == config
    rtol = {"f32": 0.0, "f16": 1e-3, "q8_0": 1.0}[dtype]
    for name, array in model.state_dict().items():
        atol = np.abs(array).max() / 127 if dtype == "q8_0" else 1e-7
        np.testing.assert_allclose(again.state_dict()[name], array, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.architecture": "mamba"}, "architecture is 'mamba'"),
        ({"general.architecture": 3}, "architecture is 3"),
        ({"llama.expert_count": 8}, "asks for experts"),
        ({"llama.rope.freq_base": None}, "llama.rope.freq_base is nowhere"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type is 'yarn'"),
        ({"llama.rope.dimension_count": 2}, "rope.dimension_count is 2"),
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.block_count": 3}, "blk.2.attn_norm.weight is missing"),
        ({"llama.block_count": 1 << 31}, "fewer tensors"),
        ({"llama.embedding_length": 20}, "token_embd.weight must have shape (29, 20)"),
        ({"llama.attention.head_count": "4"}, "llama.attention.head_count ('4') must be a whole number"),
        ({"split.count": np.array([1, 2], np.int32)}, "must be a single value, not an array of 2"),
        ({"llama.expert_count": np.array([0, 0], np.int32)}, "must be a single value, not an array of 2"),
        ({"llama.attention.value_length": np.array([4, 4], np.int32)}, "must be a single value, not an array of 2"),
        ({"tokenizer.ggml.eos_token_id": np.array([1, 2], np.int32)}, "must be a single value, not an array of 2"),
        ({"split.count": 2}, "part of a split model"),
        ({"split.count": ["a"]}, "split.count must be a single value, not an array of 1"),
        ({"llama.expert_count": np.array([1, 2])}, "llama.expert_count must be a single value"),
        ({"llama.attention.value_length": [1, 2]}, "value_length must be a single value"),
        ({"llama.rope.scaling.type": np.zeros(0, np.float32)}, "rope.scaling.type must be a single value"),
        ({"tokenizer.ggml.eot_token_id": [1, 2]}, "eot_token_id must be a single value"),
        ({"llama.attention.key_length": 1 << 31}, "channels of all heads, and no tensor has so many elements"),
        ({"llama.embedding_length": 1 << 31}, "and no tensor has so many elements"),
        ({"llama.feed_forward_length": 1 << 31}, "channels of a feed-forward layer, and no tensor"),
    ],
)
def test_a_file_that_is_not_computed_exactly_is_refused_by_name(
    metadata: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = rewritten(FROZEN / "gguf_models/llama.gguf", tmp_path / "m.gguf", metadata)
    with pytest.raises(CheckpointError) as caught:
        LanguageModel.from_pretrained(path)
    assert reason in str(caught.value)


def test_divisors_that_are_not_llama_3s_are_refused(tmp_path: Path) -> None:
    for divisors, reason in (([2.5, 1.0], "not the scaling of Llama 3"), ([1.0], "must have shape (2,)")):
        tensors = {"rope_freqs.weight": np.asarray(divisors, np.float32)}
        path = rewritten(FROZEN / "gguf_models/llama.gguf", tmp_path / "m.gguf", {}, tensors)
        with pytest.raises(CheckpointError) as caught:
            LanguageModel.from_pretrained(path)
        assert reason in str(caught.value)
    ones = {"rope_freqs.weight": np.ones(2, np.float32)}
    path = rewritten(FROZEN / "gguf_models/llama.gguf", tmp_path / "m.gguf", {}, ones)
    assert LanguageModel.from_pretrained(path).config.rope_scaling is None


def test_a_model_that_no_architecture_expresses_is_refused(tmp_path: Path) -> None:
    model = LanguageModel(LanguageModelConfig(vocab_size=9, context_length=8, num_layers=1, num_heads=2, embed_dim=8))
    with pytest.raises(ValueError, match=r'norm="layer".*save it as a folder'):
        save_model(tmp_path / "m.gguf", model.config, model.state_dict())
    with pytest.raises(ValueError, match=r"dtype \('q4_0'\) must be one of f32, f16, q8_0"):
        save_model(tmp_path / "m.gguf", model.config, model.state_dict(), dtype="q4_0")
    assert not list(tmp_path.iterdir())
