"""--adapter of apps/chat.py, sample.py, evaluate.py and export.py, with a small random Llama."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from axone.cli import chat, evaluate, export, sample
from axone.llm import Adapter, LanguageModel, LanguageModelConfig, ModelBundle, open_bundle
from axone.tokenizer import BPETokenizer

App = Callable[[Callable[[], int], str], int]
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 20
TEMPLATE = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}<|s|>assistant\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, an adapter of it, the model with the adapter merged, and another model."""
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=("<|s|>", "<|e|>"))
    config = LanguageModelConfig.llama(
        vocab_size=tokenizer.vocab_size, context_length=64, num_layers=2, num_heads=2, num_kv_heads=1, embed_dim=16,
        hidden_dim=32,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "other")):
        model = LanguageModel(config, rng=np.random.default_rng(seed))
        ModelBundle(model, tokenizer, TEMPLATE).write(path / name)
    bundle = open_bundle(path / "base")
    adapter = Adapter.add(bundle.model, rank=2, rng=np.random.default_rng(2))
    for layer in adapter.layers.values():
        layer.lora_B.data[...] = 0.2
    adapter.save(path / "adapter")
    adapter.merge(bundle.model)
    bundle.write(path / "merged")
    return path


def outputs(app: App, command: Callable[[], int], line: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert app(command, line) == 0
    return capfd.readouterr().out


def test_every_app_gives_the_output_of_the_merged_model(
    app: App, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    commands = {
        chat.main: "chat.py {} --temperature 0 --max-new-tokens 8",
        sample.main: "sample.py {} --prompt to --temperature 0 --max-new-tokens 8",
        evaluate.main: f"evaluate.py {{}} --data {tmp_path / 'text.txt'} --max-tokens 200",
    }
    for command, line in commands.items():
        found = []
        for model in (f"{models / 'base'} --adapter {models / 'adapter'}", models / "merged", models / "base"):
            monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
            found.append(outputs(app, command, line.format(model), capfd).split("tokens per second")[0])
        assert found[0] == found[1] != found[2], line


@pytest.mark.parametrize("target", ["tuned", "tuned.gguf"])
def test_export_merges_the_adapter(app: App, models: Path, tmp_path: Path, target: str) -> None:
    line = f"export.py {models / 'base'} --adapter {models / 'adapter'} --to {tmp_path / target} --dtype f32"
    assert app(export.main, line) == 0
    expected = open_bundle(models / "merged").model.state_dict()
    for name, array in open_bundle(tmp_path / target).model.state_dict().items():
        np.testing.assert_allclose(array, expected[name], atol=1e-6)


def test_an_adapter_fits_another_quantization_of_its_base_if_it_is_accepted(
    app: App, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(export.main, f"export.py {models / 'base'} --to {tmp_path / 'half.gguf'} --dtype f16") == 0
    for command, line in {
        sample.main: f"sample.py {tmp_path / 'half.gguf'} --prompt to --temperature 0 --max-new-tokens 2",
        export.main: f"export.py {tmp_path / 'half.gguf'} --to {tmp_path / 'tuned'}",
    }.items():
        assert app(command, f"{line} --adapter {models / 'adapter'}") == 2
        assert "--any-base" in capfd.readouterr().err.splitlines()[-1]
        assert app(command, f"{line} --adapter {models / 'adapter'} --any-base") == 0
    expected = open_bundle(models / "merged").model.state_dict()
    for name, array in open_bundle(tmp_path / "tuned").model.state_dict().items():
        np.testing.assert_allclose(array, expected[name], atol=1e-3)


def test_an_adapter_of_another_base_is_refused_in_one_sentence(
    app: App, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"export.py {models / 'other'} --adapter {models / 'adapter'} --to {tmp_path / 'tuned'}"
    assert app(export.main, line) == 2
    assert "belongs to another base" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "tuned").exists()
    assert app(export.main, f"{line} --any-base") == 0  # of the same shapes
    assert app(export.main, f"export.py {models / 'base'} --any-base --to {tmp_path / 'other'}") == 2
    assert "--any-base needs --adapter" in capfd.readouterr().err.splitlines()[-1]
    assert app(export.main, f"export.py {models / 'base'} --adapter {models / 'base'} --to {tmp_path / 'third'}") == 2
    assert "is not an adapter" in capfd.readouterr().err.splitlines()[-1]
