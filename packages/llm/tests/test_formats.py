"""Format numbers of JSON files: older formats are upgraded, newer ones refused."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    CheckpointError,
    LanguageModel,
    LanguageModelConfig,
    Run,
    TokenDataset,
    Trainer,
    TrainerConfig,
    load,
)
from axone.llm.checkpoints.checkpoint import Checkpoint
from axone.llm.storage.atomic import json_bytes
from axone.llm.storage.json_schema import Format, numbered, renamed
from axone.llm.storage.safetensors import read_arrays

FIXTURES = Path(__file__).parent / "fixtures" / "run_format_0"
RUNS = ("adamw", "muon")


def test_a_document_without_a_number_has_format_0() -> None:
    options = Format((lambda content: renamed(content, {"clip": "norm"}), lambda content: {**content, "added": True}))
    path = Path("options.json")
    assert options.upgrade({"clip": 1, "steps": 2}, path) == {"norm": 1, "steps": 2, "added": True}
    assert options.upgrade({"format": 1, "norm": 1}, path) == {"norm": 1, "added": True}
    assert options.upgrade(options.stamp({"norm": 1}), path) == {"norm": 1}
    assert options.stamp({"steps": 2, "format": 7}) == {"format": 2, "steps": 2}


@pytest.mark.parametrize("number", [-1, 1.0, True, "1", None, []])
def test_a_format_that_is_not_a_whole_number_is_refused(number: object) -> None:
    with pytest.raises(CheckpointError, match="format must be a whole number of at least 0, not"):
        Format((numbered,)).upgrade({"format": number}, Path("run.json"))


def documents(folder: Path) -> set[str]:
    """Return the names of the JSON files below a folder that are ours, and check that each has a format number."""
    names = set()
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not path.name.startswith("tokenizer") and content.get("model_type") != "gpt2":
            assert type(content["format"]) is int, path
            assert content["format"] >= 1, path
            names.add(path.name)
    return names


@pytest.fixture
def run(dataset: TokenDataset, tmp_path: Path) -> Path:
    """Return a run of a model of our own family."""

    shape = LanguageModelConfig(
        vocab_size=29, context_length=8, num_layers=1, num_heads=1, embed_dim=4, position="rotary"
    )
    config = TrainerConfig(steps=1, batch_size=1, context_length=8, workers=1)
    Trainer(LanguageModel(shape), *dataset.split(), config, run=tmp_path / "run").fit()
    return tmp_path / "run"


def test_every_json_file_of_a_run_has_a_format_number(run: Path) -> None:
    found = documents(run)
    assert {"run.json", "trainer.json", "manifest.json", "config.json"} < found
    assert any(name.startswith("train.") for name in found)


def newer(path: Path) -> None:
    """Give a JSON file a format of the future."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_bytes(json_bytes({**content, "format": 99}))


def test_a_newer_format_is_refused_in_one_sentence(run: Path) -> None:
    refused = r"{}: has format 99, and this version of axone-llm reads up to \d: update axone-llm"
    checkpoint = Run(run).latest().path
    copy = run.with_name("copy")

    def damaged(relative: Path) -> Path:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        newer(copy / relative)
        return copy

    data = next(path.relative_to(run) for path in (run / "data").glob("train*.json"))
    for relative in (Path("run.json"), data):
        with pytest.raises(CheckpointError, match=refused.format(relative.name)):
            Trainer.resume(damaged(relative))
    place = checkpoint.relative_to(run)
    with pytest.raises(CheckpointError, match=refused.format("manifest.json")):
        load(damaged(place / "manifest.json") / place)
    with pytest.raises(CheckpointError, match=refused.format("config.json")):
        LanguageModel.from_pretrained(damaged(place / "config.json") / place)
    with pytest.raises(CheckpointError, match=refused.format("trainer.json")):
        Checkpoint(damaged(place / "trainer.json") / place).training_state()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_format_0_loads(name: str) -> None:
    model, tokenizer = load(FIXTURES / name)
    assert tokenizer.vocab_size == model.config.vocab_size
    assert Run(FIXTURES / name).options()["trainer"]["seed"] == {"adamw": 3, "muon": 4}[name]


def resumed(name: str, folder: Path) -> tuple[Checkpoint, dict[str, Any], dict[str, Any]]:
    """Finish a copy of a run, and return its last checkpoint with the environments before and after."""
    run = Run(shutil.copytree(FIXTURES / name, folder / name))
    before = run.latest().training_state().environment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the environment may be another
        assert Trainer.resume(run.path).fit().outcome == "finished"
    return run.latest(), before, run.latest().training_state().environment


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_format_0_is_resumed_with_the_same_bits(name: str, tmp_path: Path) -> None:
    checkpoint, before, after = resumed(name, tmp_path)
    expected = read_arrays(FIXTURES / "expected" / f"{name}.safetensors")
    found = read_arrays(checkpoint.path / "model.safetensors")
    same = before == after and name == "adamw"  # the weights of muon come from another processor than its run
    rtol, atol = (0.0, 0.0) if same else (1e-3, 1e-5)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        if not same and key.endswith("c_attn.bias"):  # AdamW scales up the rounding errors of the biases of keys
            keys = slice(len(array) // 3, 2 * len(array) // 3)
            found[key][keys] = array[keys]
        np.testing.assert_allclose(found[key], array, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_format_0_continues_in_the_current_format(name: str, tmp_path: Path) -> None:
    assert {"trainer.json", "manifest.json"} <= documents(resumed(name, tmp_path)[0].path)
