"""apps/chat.py, evaluate.py, export.py and verify.py, with a small random Llama."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from axone.cli import chat, evaluate, export, sample, verify
from axone.llm import LanguageModel, LanguageModelConfig, ModelBundle, load, open_bundle, save_golden, verification
from axone.tokenizer import BPETokenizer, CharTokenizer

App = Callable[[Callable[[], int], str], int]
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 20
TEMPLATE = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}<|s|>assistant\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder with a chat template."""
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=("<|s|>", "<|e|>"))
    config = LanguageModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=128, num_layers=2, num_heads=4, num_kv_heads=2, embed_dim=32,
        hidden_dim=64, norm="rms", position="rotary", mlp="swiglu", bias=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "llama"
    ModelBundle(LanguageModel(config, rng=np.random.default_rng(0)), tokenizer, TEMPLATE).write(path)
    return path


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_chat_answers_line_by_line_and_carries_out_commands(
    app: App, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.jsonl").write_text('{"text": "a line without its end"}', encoding="utf-8")
    typed(
        monkeypatch,
        "Hello\n/retry\n\n/system Be brief.\n/temperature 0\nAgain\n/stats\n/save log.jsonl\n/help\n/exit\nx\n",
    )
    assert app(chat.main, f"chat.py {folder} --max-new-tokens 5 --seed 0 --stats") == 0
    out, err = capfd.readouterr()
    assert out.count("\n") >= 3
    assert err.count("new tokens") == 3
    assert "tokens per second]" in err
    assert "/temperature T" in err
    first, line = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert first == '{"text": "a line without its end"}'
    assert [message["role"] for message in json.loads(line)["messages"]] == ["system", "user", "assistant"]


def test_int8_weights_chat_sample_and_are_evaluated(
    app: App, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    perplexities = []
    for weights in ("float32", "int8"):
        typed(monkeypatch, "Hello\n")
        assert app(chat.main, f"chat.py {folder} --max-new-tokens 5 --weights {weights}") == 0
        line = f"sample.py {folder} --prompt to --temperature 0 --max-new-tokens 5 --weights {weights}"
        assert app(sample.main, line) == 0
        capfd.readouterr()
        assert app(evaluate.main, f"evaluate.py {folder} --data text.txt --weights {weights}") == 0
        table = capfd.readouterr().out.splitlines()
        perplexities.append(float(next(line for line in table if line.startswith("perplexity")).split()[-1]))
    assert perplexities[0] != perplexities[1]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=0.02)
    assert app(chat.main, f"chat.py {folder} --weights int8 --adapter {tmp_path}") == 2
    assert "--weights int8 cannot be used with --adapter" in capfd.readouterr().err.splitlines()[-1]
    assert app(chat.main, f"chat.py {folder} --weights int4") == 2


def test_drafts_do_not_change_answers(
    app: App, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for options in ("", "--draft prompt"):
        typed(monkeypatch, "Hello\nHello\n/retry\n")
        assert app(chat.main, f"chat.py {folder} --max-new-tokens 30 --seed 0 {options}") == 0
        answers.append(capfd.readouterr().out)
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("/dance\n", "/dance is not a command"),
        ("/retry\n", "there is no message to answer"),
        ("/temperature warm\n", "/temperature needs a number of at least 0, not 'warm'"),
        ("/temperature -1\n", "/temperature needs a number of at least 0, not '-1'"),
        ("/save\n", "/save needs the name of a file"),
        ("/save none/log.jsonl\n", "none/log.jsonl: No such file"),
    ],
)
def test_a_wrong_command_in_a_pipe_ends_the_chat_with_a_sentence(
    app: App, folder: Path, lines: str, reason: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, lines)
    assert app(chat.main, f"chat.py {folder}") == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("chat.py: error: ")
    assert reason in last


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{folder} --temperature -1", "--temperature (-1.0) must be at least 0"),
        ("{folder} --max-new-tokens 0", "--max-new-tokens (0) must be at least 1"),
        ("none.gguf", "none.gguf: cannot be read"),
        ("none", "none: is not a folder"),
        ("{run}", "a model of characters has no chat template"),
        ("{plain}", "the model has no chat template"),
    ],
)
def test_a_model_that_cannot_chat_is_refused_in_one_sentence(
    app: App,
    folder: Path,
    trained: Path,
    tmp_path: Path,
    arguments: str,
    reason: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, tokenizer = load(folder)
    ModelBundle(model, tokenizer).write(tmp_path / "plain")
    assert app(chat.main, "chat.py " + arguments.format(folder=folder, run=trained, plain=tmp_path / "plain")) == 2
    assert reason in capfd.readouterr().err.splitlines()[-1]


def test_an_evaluation_prints_perplexity_and_bits_per_byte(
    app: App, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert app(evaluate.main, f"evaluate.py {folder} --data text.txt --window 64 --stride 16") == 0
    rows = {line[:18].strip(): float(line[18:].replace(",", "")) for line in capfd.readouterr().out.splitlines()}
    tokens = len(load(folder)[1].encode(TEXT))
    assert rows["tokens"] == tokens - 1
    assert rows["perplexity"] == pytest.approx(math.exp(rows["nats per token"]), rel=1e-3)
    assert rows["perplexity"] == pytest.approx(300, rel=0.1)  # of a random model
    bits = rows["nats per token"] / math.log(2) * rows["tokens"] / rows["bytes"]
    assert rows["bits per byte"] == pytest.approx(bits, rel=1e-3)
    for options, reason in (
        ("--window 999", "--window (999) must be from 1 to the model's context length (128)"),
        ("--window 8 --stride 9", "--stride (9) must be from 1 to window (8)"),
        ("--max-tokens 1", "at least 2"),
    ):
        assert app(evaluate.main, f"evaluate.py {folder} --data text.txt {options}") == 2
        assert reason in capfd.readouterr().err.splitlines()[-1]
    assert app(evaluate.main, f"evaluate.py {folder} --data none.txt") == 2
    assert "none.txt" in capfd.readouterr().err.splitlines()[-1]


def test_a_model_is_exported_as_a_folder_and_as_a_file(
    app: App, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = np.arange(12)[None]
    expected = open_bundle(folder).model(ids).data
    for target, dtype, bound in (("a", "f32", 0), ("b", "f16", 1e-2), ("a.gguf", "f32", 0), ("b.gguf", "q8_0", 5e-2)):
        assert app(export.main, f"export.py {folder} --to {target} --dtype {dtype}") == 0
        assert np.abs(open_bundle(tmp_path / target).model(ids).data - expected).max() <= bound
        assert f"{target}: " in capfd.readouterr().err
    assert app(export.main, f"export.py {folder} --to a") == 2
    assert "a is there already: choose another name, or add --overwrite" in capfd.readouterr().err
    assert app(export.main, f"export.py {folder} --to a --overwrite") == 0
    assert app(export.main, f"export.py {folder} --to c --dtype q8_0") == 2
    assert "--dtype (q8_0) is for .gguf files" in capfd.readouterr().err


def test_a_model_that_gguf_cannot_hold_is_refused_and_nothing_is_written(
    app: App, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(export.main, f"export.py {trained} --to m.gguf") == 2
    assert "cannot hold a character tokenizer" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "m.gguf").exists()


def test_a_model_is_compared_with_a_golden_file(
    app: App, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = verification.quantities(open_bundle(folder))
    monkeypatch.setattr(verification, "_of_transformers", lambda _: golden)
    save_golden(folder, tmp_path / "golden")
    assert app(verify.main, f"verify.py {folder} --golden golden") == 0
    out = capfd.readouterr().out
    assert "layer 1 k" in out
    assert out.endswith("everything agrees\n")
    swapped = golden["layer 1 q"][:, ::-1].copy()
    monkeypatch.setattr(
        verification, "_of_transformers", lambda _: {**golden, "layer 1 q": swapped, "ids 0": golden["ids 1"]}
    )
    assert app(verify.main, f"verify.py {folder} --save-golden golden") == 0
    capfd.readouterr()
    assert app(verify.main, f"verify.py {folder} --golden golden") == 1
    wrong = [line[:22].strip() for line in capfd.readouterr().out.splitlines() if line.endswith("DIFFERS")]
    assert wrong == ["ids 0", "layer 1 q"]


def test_without_transformers_a_sentence_says_what_to_install(
    app: App, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert app(verify.main, f"verify.py {folder}") == 2
    assert "pip install transformers torch" in capfd.readouterr().err


def test_a_model_folder_is_sampled_from_without_a_run(
    app: App, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(sample.main, f"sample.py {folder} --prompt to --max-new-tokens 9 --seed 1") == 0
    assert capfd.readouterr().out.startswith("to")


def test_the_text_generator_begins_with_the_token_that_the_model_expects(folder: Path) -> None:
    from axone.llm.generation.text import prompt_ids

    plain = open_bundle(folder).tokenizer
    assert isinstance(plain, BPETokenizer)
    document = plain.to_document()
    config = {"bos_token": "<|s|>", "add_bos_token": True}
    tokenizer = BPETokenizer.from_document(document, config)
    assert prompt_ids(tokenizer, "to") == [tokenizer.special_tokens["<|s|>"], *tokenizer.encode("to")]
    assert prompt_ids(CharTokenizer.train("abc"), "ab") == [0, 1]
