"""apps/finetune.py with a small random Llama: adapter, all weights, last blocks, resuming, and errors in one sentence."""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from axone.cli import chat, finetune, train
from axone.llm import (
    Adapter,
    LanguageModel,
    LanguageModelConfig,
    LossPlot,
    ModelBundle,
    ProgressBar,
    StepEvent,
    Trainer,
    open_bundle,
)
from axone.tokenizer import BPETokenizer

App = Callable[[Callable[[], int], str], int]
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 20
TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=("<|s|>", "<|e|>"))
    config = LanguageModelConfig.llama(
        vocab_size=tokenizer.vocab_size, context_length=64, num_layers=2, num_heads=2, num_kv_heads=1, embed_dim=16,
        hidden_dim=32,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "base"
    ModelBundle(LanguageModel(config, rng=np.random.default_rng(0)), tokenizer, TEMPLATE).write(path)
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    lines = [{"prompt": f"to be {i}?", "completion": "not " + "to be " * (i % 4)} for i in range(24)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the estimate and the plot, which take seconds."""
    monkeypatch.setattr(Trainer, "estimate", lambda _: argparse.Namespace(seconds=1.0, memory=None))
    monkeypatch.setattr(LossPlot, "draw", lambda _: None)


def adapter_bits(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def test_an_adapter_is_trained_measured_and_chatted_with(
    app: App,
    base: Path,
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "notes.txt").write_text(TEXT, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    line = f"finetune.py {base} --data {chats} --out run --keep notes.txt --steps 12 --rank 4 --learning-rate 0.03"
    assert app(finetune.main, line) == 0
    out = capfd.readouterr().out
    assert "24 sequences of" in out
    assert "perplexity of plain text" in next(line for line in out.splitlines() if line.startswith("before  "))
    loss = next(line for line in out.splitlines() if line.startswith("held-out loss")).split()
    assert float(loss[3]) < float(loss[2])
    assert "perplexity of plain text" in out
    assert f"--adapter {Path('run', 'adapter')}" in out
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    model = open_bundle(base).model
    assert Adapter.load(model, "run/adapter").options.rank == 4
    answers = []
    for path in ("run", f"{base} --adapter run/adapter", str(base)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("to be 3?\n"))
        assert app(chat.main, f"chat.py {path} --temperature 0 --max-new-tokens 8") == 0
        answers.append(capfd.readouterr().out)
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(
    ("given", "steps"),
    [("", 60), ("--preset evening", 120), ("--epochs 2", 6), ("--batch-size 1 --epochs 3", 66), ("--steps 7", 7)],
)
def test_few_conversations_are_seen_several_times_unless_epochs_are_given(
    app: App, base: Path, chats: Path, given: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []

    def note(trainer: Trainer, _out: Path) -> int:
        planned.append(trainer.config.steps)
        return 0

    monkeypatch.setattr(finetune, "train", note)
    assert app(finetune.main, f"finetune.py {base} --data {chats} --out run {given}") == 0
    assert planned == [steps]


def test_ctrl_c_after_the_last_step_keeps_the_adapter_and_prints_the_next_commands(
    app: App, base: Path, chats: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finetune, "show_result", lambda *_: signal.raise_signal(signal.SIGINT))
    assert app(finetune.main, f"finetune.py {base} --data {chats} --out run --steps 1 --rank 2") == 130
    out = capfd.readouterr().out
    assert "Interrupted after the last step: the fine-tuning is complete." in out
    assert "    uv run apps/chat.py run\n" in out
    assert adapter_bits(Path("run"))


def test_the_mask_is_shown_and_nothing_is_written(
    app: App, base: Path, chats: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(finetune.main, f"finetune.py {base} --data {chats} --show-mask") == 0
    assert "<|s|>user\nto be 0?<|e|>\n<|s|>assistant\n[[not <|e|>]]" in capfd.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats.jsonl"]


@pytest.mark.parametrize("way", ["--full", "--last-blocks 1"])
def test_weights_are_trained_without_an_adapter(app: App, base: Path, chats: Path, way: str) -> None:
    line = f"finetune.py {base} --data {chats} --out run --steps 2 --learning-rate 0.01 {way}"
    assert app(finetune.main, line) == 0
    before, after = open_bundle(base).model.state_dict(), open_bundle("run").model.state_dict()
    changed = {name.split(".")[2] for name in after if ".blocks." in name and (after[name] != before[name]).any()}
    assert changed == ({"0", "1"} if way == "--full" else {"1"})
    assert open_bundle("run").chat_template_text == TEMPLATE


@pytest.mark.parametrize("way", ["--rank 2 --dropout 0.2", "--last-blocks 1"])
def test_an_interrupted_fine_tuning_continues_with_the_same_bits(
    app: App, base: Path, chats: Path, way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"finetune.py {base} --data {chats} --steps 5 --learning-rate 0.01 {way} --out"
    assert app(finetune.main, f"{line} whole") == 0
    on_step = ProgressBar.on_step

    def interrupt(bar: ProgressBar, event: StepEvent) -> None:
        on_step(bar, event)
        if event.step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "on_step", interrupt)
    assert app(finetune.main, f"{line} run") == 130
    assert "uv run apps/finetune.py --resume run" in capfd.readouterr().out
    monkeypatch.setattr(ProgressBar, "on_step", on_step)
    assert app(finetune.main, "finetune.py --resume run") == 0
    if "rank" in way:
        assert adapter_bits(Path("run")) == adapter_bits(Path("whole"))
    expected = open_bundle("whole").model.state_dict()
    for name, array in open_bundle("run").model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{base} --data {chats} --rank 0", "--rank (0) of LoRALinear must be at least 1"),
        ("{base} --data {chats} --targets nothing", "--targets (nothing) match no layer: choose all-linear"),
        ("{base} --data {chats} --targets lm_head", "--targets (lm_head) must not name the output layer"),
        ("{base} --data {chats} --full --rank 2", "--full, --rank exclude each other"),
        ("{base} --data {chats} --full --last-blocks 1", "--full, --last-blocks exclude each other"),
        ("{base} --data {chats} --last-blocks 9", "--last-blocks (9) must be from 1 to 2"),
        ("{base} --data {chats} --context-length 65", "--context-length (65) must be at most that of the model (64)"),
        ("{base} --data {chats} --context-length 4", "has no conversation with an answer that fits into 4 tokens: add"),
        ("{base} --data {chats} --validation 1", "--validation (1.0) must be in (0, 1)"),
        ("{base} --data none.jsonl", "none.jsonl: cannot be read"),
        ("{base} --data {bad}", "bad.jsonl, line 2: is not JSON"),
        ("{base}", "PATH and --data are required"),
        ("none --data {chats}", "none: is not a folder"),
        ("{plain} --data {turns}", "turns.jsonl, line 1: the model has no chat template"),
        ("{base} --data {role}", "role.jsonl, line 1: "),
        ("{base} --data {empty}", "empty.jsonl, line 1: "),
        ("{base} --data {silent}", "silent.jsonl, line 1: "),
        ("{flat} --data {turns}", "turns.jsonl, line 1: the chat template does not render the assistant's text"),
        ("--resume {base}", "is not a run"),
        ("--resume run --rank 2", "--resume reads all options but --steps from the run"),
    ],
)
def test_a_wrong_argument_or_file_is_refused_in_one_sentence(
    app: App,
    base: Path,
    chats: Path,
    tmp_path: Path,
    arguments: str,
    reason: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bundle = open_bundle(base)
    ModelBundle(bundle.model, bundle.tokenizer).write(tmp_path / "plain")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\nx\n', encoding="utf-8")
    turns = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    ModelBundle(bundle.model, bundle.tokenizer, "{{ messages[0].content }}").write(tmp_path / "flat")
    lines = {
        "turns": turns,
        "role": {"messages": [{"role": "robot", "content": "a"}, *turns["messages"]]},
        "empty": {"messages": []},
        "silent": {"messages": turns["messages"][:1]},
    }
    for name, content in lines.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(content), encoding="utf-8")
    places = {name: tmp_path / f"{name}.jsonl" for name in ("bad", *lines)}
    models = {name: tmp_path / name for name in ("plain", "flat")}
    line = arguments.format(base=base, chats=chats, **models, **places)
    assert app(finetune.main, f"finetune.py {line}") == 2
    assert reason in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_a_fine_tuning_is_not_resumed_as_a_training_nor_the_other_way(
    app: App, base: Path, chats: Path, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(finetune.main, f"finetune.py {base} --data {chats} --out tuned --steps 1 --rank 2") == 0
    assert app(train.main, "train.py --resume tuned") == 2
    assert "resume it with uv run apps/finetune.py" in capfd.readouterr().err.splitlines()[-1]
    assert app(finetune.main, f"finetune.py --resume {trained}") == 2
    assert "resume it with uv run apps/train.py" in capfd.readouterr().err.splitlines()[-1]
