"""Fine-tuning on conversations: the same trainer, checkpoints that hold the adapter alone, and resuming bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Adapter,
    Callback,
    ChatTemplate,
    CheckpointError,
    Conversations,
    LanguageModel,
    LanguageModelConfig,
    ModelBundle,
    Run,
    StepEvent,
    Trainer,
    TrainerConfig,
    open_bundle,
)
from axone.llm.loss import batch_loss
from axone.tokenizer import BPETokenizer

SPECIAL = ("<|s|>", "<|e|>")
TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
COLOURS = ("red", "green", "blue", "black", "white")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder with a chat template."""
    tokenizer = BPETokenizer.train("user assistant say " + " ".join(COLOURS) * 9, 270, special_tokens=SPECIAL)
    config = LanguageModelConfig.llama(
        vocab_size=tokenizer.vocab_size, context_length=64, num_layers=2, num_heads=2, num_kv_heads=1, embed_dim=16,
        hidden_dim=32,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "base"
    ModelBundle(LanguageModel(config, rng=np.random.default_rng(0)), tokenizer, TEMPLATE).write(path)
    return path


def chats(bundle: ModelBundle, tmp_path: Path) -> Conversations:
    path = tmp_path / "chats.jsonl"
    lines = [
        {"prompt": f"say {colour}" + " now" * (i % 3), "completion": colour} for i in range(6) for colour in COLOURS
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return Conversations.from_jsonl(path, bundle.tokenizer, bundle.chat_template, context_length=64)


def options(**changes: Any) -> TrainerConfig:
    usual: dict[str, Any] = {"steps": 6, "batch_size": 4, "context_length": 64, "learning_rate": 3e-2, "save_every": 1}
    return TrainerConfig(**{**usual, "eval_every": 3, "workers": 2, **changes})


def trainer(base: Path, tmp_path: Path, run: str | None = "run", dropout: float = 0.1, **changes: Any) -> Trainer:
    bundle = open_bundle(base)
    adapter = Adapter.add(
        bundle.model, rank=4, alpha=8, dropout=dropout, base_name=str(base), rng=np.random.default_rng(1)
    )
    data = chats(bundle, tmp_path).split(0.2)
    where = None if run is None else tmp_path / run
    return Trainer(bundle.model, *data, options(**changes), run=where, adapter=adapter)


def matrices(model: LanguageModel) -> dict[str, Any]:
    return {name: array for name, array in model.state_dict().items() if "lora_" in name}


def loss(model: LanguageModel, data: Any) -> float:
    return batch_loss(model.eval(), data.read(np.arange(len(data)), 64)).item()


def test_an_adapter_learns_and_the_base_stays_as_it_is(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path, run=None, dropout=0.0, steps=40)
    before = loss(whole.model, whole.validation_data)
    end = whole.fit()
    assert end.validation_loss is not None
    assert end.validation_loss == pytest.approx(loss(whole.model, whole.validation_data), abs=1e-5)
    assert end.validation_loss < 0.7 * before
    expected = open_bundle(base).model.state_dict()
    for name, array in whole.model.state_dict().items():
        if name in expected:
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_gradient_of_a_step_does_not_depend_on_the_number_of_workers(
    base: Path, tmp_path: Path, workers: int
) -> None:
    losses = []

    class Losses(Callback):
        def on_step(self, event: StepEvent) -> None:
            losses.append((event.loss, event.gradient_norm))

    for count in (1, workers):
        one = trainer(base, tmp_path, run=None, dropout=0.0, steps=1, workers=count, gradient_accumulation_steps=2)
        one.callbacks.append(Losses())
        one.fit()
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_checkpoint_holds_the_adapter_and_names_its_base(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path)
    whole.fit()
    checkpoint = Run(tmp_path / "run").latest()
    names = {path.name for path in checkpoint.path.iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "base.json", "trainer.json", "trainer.safetensors",
        "manifest.json",
    }  # fmt: skip
    stored = json.loads((checkpoint.path / "base.json").read_text())
    assert whole.adapter is not None
    assert stored == {"format": 1, "name": str(base), "sha256": whole.adapter.base.sha256}


def test_a_resumed_fine_tuning_gives_the_same_adapter_bits(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path, "whole")
    whole.fit()

    class Stop(Callback):
        def on_step(self, event: StepEvent) -> None:
            if event.step == 2:
                signal.raise_signal(signal.SIGINT)

    broken = trainer(base, tmp_path)
    broken.callbacks.append(Stop())
    assert broken.fit().outcome == "interrupted"
    resumed = Trainer.resume(tmp_path / "run")
    assert resumed.fit().outcome == "finished"
    assert isinstance(resumed.train_data, Conversations)
    expected = matrices(whole.model)
    assert expected
    for name, array in matrices(resumed.model).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_run_opens_as_its_base_with_the_best_adapter_merged(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path, dropout=0.0, steps=9)
    whole.fit()
    opened = open_bundle(tmp_path / "run")
    assert opened.chat_template_text == TEMPLATE
    assert all(parameter.requires_grad for parameter in opened.model.parameters())
    assert loss(opened.model, whole.validation_data) == pytest.approx(
        loss(whole.model, whole.validation_data), abs=1e-5
    )


def test_the_estimate_counts_trained_parameters(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path, run=None)
    assert whole.adapter is not None
    assert whole.estimate().parameters == whole.adapter.num_parameters


def test_full_fine_tuning_keeps_the_chat_template(base: Path, tmp_path: Path) -> None:
    bundle = open_bundle(base)
    data = chats(bundle, tmp_path).split(0.2)
    text = bundle.chat_template_text
    Trainer(bundle.model, *data, options(), run=tmp_path / "run", chat_template_text=text).fit()
    opened = open_bundle(tmp_path / "run")
    assert isinstance(opened.chat_template, ChatTemplate)
    assert Trainer.resume(tmp_path / "run").fit().outcome == "finished"


def rename_base(run: Path) -> None:
    shutil.move(run.parent / "base", run.parent / "moved")


def change_base(run: Path) -> None:
    bundle = open_bundle(run.parent / "base")
    bundle.model.embedding.weight.data[0] += 1
    bundle.write(run.parent / "base")


def change_data(run: Path) -> None:
    path = run / "data" / "train.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename_base, "needs its base, which cannot be opened"),
        (change_base, "belongs to another base"),
        (change_data, "is damaged: its SHA-256 sum is not that of the run"),
    ],
)
def test_a_missing_or_other_base_or_data_is_one_error(base: Path, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(base, tmp_path / "base")
    trainer(tmp_path / "base", tmp_path, steps=1).fit()
    damage(tmp_path / "run")
    with pytest.raises(CheckpointError, match=message):
        Trainer.resume(tmp_path / "run")
