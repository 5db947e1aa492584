"""Adapters: read as PEFT computes them, written as PEFT reads them, added, merged, and refused where they do not belong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import no_grad
from axone.llm import Adapter, CheckpointError, LanguageModel, LanguageModelConfig, load, open_bundle
from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.storage.safetensors import read_arrays, write_arrays
from axone.nn import LoRALinear
from axone.tokenizer import CharTokenizer

FROZEN = Path(__file__).parent / "frozen"
ADAPTERS = sorted(path.name for path in (FROZEN / "adapters").iterdir())
IDS = np.arange(12)[None] % 29
SHAPE: dict[str, Any] = {"vocab_size": 29, "context_length": 16, "num_layers": 2, "num_heads": 2, "embed_dim": 8}


def base(name: str = "llama", dtype: Any = np.float64) -> LanguageModel:
    return LanguageModel.from_pretrained(FROZEN / "families" / name.partition(".")[0]).astype(dtype)


def logits(model: LanguageModel) -> NDArray[Any]:
    with no_grad():
        out: NDArray[Any] = model.eval()(IDS).data[0]
    return out


def trained(model: LanguageModel, **options: Any) -> Adapter:
    """Add an adapter whose matrices are both random."""
    rng = np.random.default_rng(0)
    adapter = Adapter.add(model, rng=rng, **{"rank": 2, "alpha": 3, **options})
    for layer in adapter.layers.values():
        layer.lora_B.data[...] = 0.3 * rng.standard_normal(layer.lora_B.shape)
    return adapter


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_of_peft_gives_its_logits_unmerged_and_merged(name: str) -> None:
    model, expected = base(name), np.load(FROZEN / "adapters" / name / "logits.npy")
    adapter = Adapter.load(model, FROZEN / "adapters" / name)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    assert np.abs(logits(base(name)) - expected).max() > 0.01
    adapter.merge(model)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_of_peft_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    """A projection that PEFT did not adapt but that shares a layer here is written with a B of zeros."""
    folder = FROZEN / "adapters" / name
    Adapter.load(base(name), folder).save(tmp_path / "adapter")
    before, after = (read_arrays(place / "adapter_model.safetensors") for place in (folder, tmp_path / "adapter"))
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array, err_msg=key)
    for key in after.keys() - before.keys():
        assert ".lora_A." in key or not after[key].any(), key
    old, new = (json.loads((place / "adapter_config.json").read_text()) for place in (folder, tmp_path / "adapter"))
    assert {
        key: new[key] for key in ("r", "lora_alpha", "lora_dropout", "use_rslora", "fan_in_fan_out", "peft_type")
    } == {key: old[key] for key in ("r", "lora_alpha", "lora_dropout", "use_rslora", "fan_in_fan_out", "peft_type")}


def test_the_configuration_has_the_keys_alone_that_old_versions_of_peft_know(tmp_path: Path) -> None:
    trained(base(), base_name="tiny").save(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "r": 2, "lora_alpha": 3,
        "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False,
        "target_modules": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    }  # fmt: skip


def test_a_fused_projection_is_written_as_three_with_the_same_a(tmp_path: Path) -> None:
    model = base()
    adapter = trained(model)
    adapter.save(tmp_path)
    tensors = read_arrays(tmp_path / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.1.self_attn."
    layer = adapter.layers["transformer.blocks.1.attention.qkv_proj"]
    for part in "qkv":
        np.testing.assert_array_equal(tensors[f"{prefix}{part}_proj.lora_A.weight"], layer.lora_A.data)
    b = np.concatenate([tensors[f"{prefix}{part}_proj.lora_B.weight"] for part in "qkv"])
    np.testing.assert_array_equal(b, layer.lora_B.data)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "qwen3"])
@pytest.mark.parametrize("rslora", [False, True])
def test_saving_and_loading_keep_every_bit(name: str, rslora: bool, tmp_path: Path) -> None:
    model = base(name)
    trained(model, rslora=rslora, dropout=0.25).save(tmp_path / "adapter")
    other = base(name)
    adapter = Adapter.load(other, tmp_path / "adapter")
    np.testing.assert_array_equal(logits(other), logits(model))
    assert (adapter.options.dropout, adapter.options.rslora) == (0.25, rslora)


def test_a_stacked_adapter_that_was_trained_further_is_written_exactly_with_a_larger_rank(tmp_path: Path) -> None:
    """Its B is block-diagonal no more, so the other adapters are padded with zeros."""
    model = base()
    adapter = Adapter.load(model, FROZEN / "adapters" / "llama")
    for layer in adapter.layers.values():
        layer.lora_B.data += 0.1
    adapter.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 18)
    other = base()
    Adapter.load(other, tmp_path)
    np.testing.assert_allclose(logits(other), logits(model), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adapter_on_and_merged_agree_and_a_new_one_changes_nothing(dtype: Any) -> None:
    model = base(dtype=dtype)
    before = logits(model)
    adapter = Adapter.add(model)
    np.testing.assert_array_equal(logits(model), before)
    for layer in adapter.layers.values():
        layer.lora_B.data += 0.05
    on = logits(model)
    assert np.abs(on - before).max() > 1e-3
    assert adapter.merge(model) is model
    np.testing.assert_allclose(logits(model), on, atol=1e-5)


def test_decoding_with_an_adapter_equals_decoding_the_merged_model() -> None:
    model = base(dtype=np.float32)
    adapter = trained(model)
    with_adapter = list(model.generate([1, 2, 3], max_new_tokens=12, temperature=0))
    adapter.merge(model)
    assert list(model.generate([1, 2, 3], max_new_tokens=12, temperature=0)) == with_adapter
    assert list(base(dtype=np.float32).generate([1, 2, 3], max_new_tokens=12, temperature=0)) != with_adapter


def test_everything_but_the_adapter_is_frozen() -> None:
    model = base()
    adapter = Adapter.add(model, rank=3)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B"}
    assert adapter.num_parameters == sum(p.size for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("all-linear", {"qkv_proj", "out_proj", "gate_proj", "up_proj", "down_proj"}),
        ("qkv_proj", {"qkv_proj"}),
        (["q_proj", "k_proj", "v_proj", "o_proj"], {"qkv_proj", "out_proj"}),
        (["down_proj"], {"down_proj"}),
    ],
)
def test_targets_name_layers_here_or_in_the_family(targets: Any, layers: set[str]) -> None:
    adapter = Adapter.add(base(), targets=targets)
    assert {path.rpartition(".")[2] for path in adapter.layers} == layers
    assert len(adapter.layers) == 2 * len(layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, r"rank \(0\) of LoRALinear must be at least 1"),
        ({"alpha": -1.0}, r"alpha \(-1.0\) of LoRALinear must be a positive number"),
        (
            {"targets": ["nothing"]},
            r"targets \(nothing\) match no layer: choose all-linear, or some of down_proj, gate",
        ),
        ({"targets": []}, "targets must name a layer: choose all-linear, or some of"),
        ({"targets": ["q_proj"]}, r"targets \(q_proj\) name a part of one layer: give all of q_proj, k_proj, v_proj"),
        ({"targets": ["lm_head"]}, r"targets \(lm_head\) must not name the output layer .* is tied to the embedding"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_frozen(options: dict[str, Any], message: str) -> None:
    model = base()
    with pytest.raises(ValueError, match=message):
        Adapter.add(model, **options)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_second_adapter_is_refused(tmp_path: Path) -> None:
    model = base()
    trained(model).save(tmp_path)
    with pytest.raises(ValueError, match="has an adapter already"):
        Adapter.add(model)
    with pytest.raises(ValueError, match="has an adapter already"):
        Adapter.load(model, tmp_path)


def test_a_model_with_an_adapter_is_not_written_as_a_model(tmp_path: Path) -> None:
    model = base()
    trained(model)
    with pytest.raises(ValueError, match="the model has an adapter: merge it"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_merging_into_another_model_or_twice_is_refused() -> None:
    model = base()
    adapter = trained(model)
    with pytest.raises(ValueError, match="was not added to this model"):
        adapter.merge(base())
    adapter.merge(model)
    with pytest.raises(ValueError, match="is merged already"):
        adapter.merge(model)


def test_an_adapter_of_other_weights_is_refused_unless_any_base_is_allowed(tmp_path: Path) -> None:
    trained(base(), base_name="the-base").save(tmp_path)
    other = base()
    other.embedding.weight.data[0, 0] += 1
    with pytest.raises(CheckpointError, match=r"belongs to another base \(the-base\), whose weights differ"):
        Adapter.load(other, tmp_path)
    assert all(parameter.requires_grad for parameter in other.parameters())
    assert Adapter.load(other, tmp_path, any_base=True).layers


def test_an_adapter_of_other_shapes_is_refused(tmp_path: Path) -> None:
    trained(base()).save(tmp_path)
    for name in ("qwen3", "llama-head-dim"):
        with pytest.raises(CheckpointError, match="belongs to another base"):
            Adapter.load(base(name), tmp_path)
    with pytest.raises(CheckpointError, match="which the model lacks or must not adapt"):
        Adapter.load(base("gpt2"), tmp_path)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**content, **changes}))

    return edit


def edit_tensors(change: Callable[[dict[str, NDArray[Any]]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = read_arrays(folder / "adapter_model.safetensors")
        change(tensors)
        write_arrays(folder / "adapter_model.safetensors", tensors)

    return edit


Q = "base_model.model.model.layers.0.self_attn.q_proj"
HEAD = {
    "base_model.model.lm_head.lora_A.weight": np.zeros((2, 16)),
    "base_model.model.lm_head.lora_B.weight": np.zeros((29, 2)),
}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_config(r=0), r"r \(0\) must be an integer of at least 1"),
        (edit_config(lora_alpha="x"), r"lora_alpha \('x'\) must be a positive number"),
        (edit_config(lora_dropout=1), r"lora_dropout \(1\) must be a number in \[0, 1\)"),
        (edit_config(r=4), "of rank 2, and adapter_config.json says 4"),
        (edit_config(peft_type="IA3"), "peft_type is 'IA3': only LORA is computed here"),
        (edit_config(use_dora=True), "use_dora is True: only False is computed here"),
        (edit_config(rank_pattern={"q_proj": 4}), "rank_pattern is {'q_proj': 4}: only {} is computed here"),
        (edit_config(init_lora_weights="pissa"), "init_lora_weights is 'pissa': only True is computed here"),
        (
            edit_tensors(lambda tensors: tensors.update(HEAD)),
            r"lm_head.lora_A.weight', which the model lacks or must not",
        ),
        (edit_tensors(lambda tensors: tensors.pop(f"{Q}.lora_A.weight")), "q_proj has one of its two matrices alone"),
        (edit_tensors(lambda tensors: tensors.clear()), "holds no adapter"),
        (
            lambda folder: (folder / "adapter_config.json").unlink(),
            "is not an adapter: it holds no adapter_config.json",
        ),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "base.json").write_text('{"format": 9}'), "has format 9"),
    ],
)
def test_a_damaged_or_other_adapter_is_one_error(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    trained(base()).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        Adapter.load(base(), tmp_path)


def test_a_bundle_is_opened_with_an_adapter_merged(tmp_path: Path) -> None:
    model = LanguageModel(LanguageModelConfig(**SHAPE), rng=np.random.default_rng(0)).eval()
    tokenizer = CharTokenizer.train("some letters")
    ModelBundle(model, tokenizer).write(tmp_path / "base")
    adapter = trained(model)
    adapter.save(tmp_path / "adapter")
    opened = open_bundle(tmp_path / "base", adapter=tmp_path / "adapter").model
    np.testing.assert_allclose(logits(opened), logits(model), atol=1e-5)
    assert np.abs(logits(load(tmp_path / "base")[0]) - logits(model)).max() > 1e-3


def test_saving_again_replaces_the_files(tmp_path: Path) -> None:
    trained(base()).save(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "first")
    trained(base(), rank=3).save(tmp_path)
    assert Adapter.load(base(), tmp_path).options.rank == 3
    assert Adapter.load(base(), tmp_path / "first").options.rank == 2


def test_an_adapter_that_was_merged_does_not_replace_the_one_on_disk(tmp_path: Path) -> None:
    model = base()
    adapter = trained(model)
    adapter.save(tmp_path)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    adapter.merge(model)
    with pytest.raises(ValueError, match="save it before the merge"):
        adapter.save(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before
