"""apps/sample.py: text on standard output, and wrong options."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axone.cli import sample
from axone.llm import LanguageModel, LanguageModelConfig, TextGenerator
from axone.tokenizer import CharTokenizer

App = Callable[[Callable[[], int], str], int]
SAMPLE = Path(__file__).parents[3] / "apps" / "sample.py"


def test_the_text_is_written_to_standard_output(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(sample.main, f"sample.py {trained} --prompt to --max-new-tokens 50 --seed 1") == 0
    out, err = capfd.readouterr()
    assert out.startswith("to")
    assert len(out) == 2 + 50 + 1
    assert err == ""
    assert app(sample.main, f"sample.py {trained} --prompt to --max-new-tokens 50 --seed 1") == 0
    assert capfd.readouterr().out == out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("run --prompt Ω", "character 'Ω' (U+03A9) at position 0"),
        ("nothing", "nothing: is not a folder"),
        (".", "is not a model"),
        ("run --temperature -1", "--temperature (-1.0) must be at least 0"),
        ("run --top-k 0", "--top-k (0) must be at least 1"),
        ("run --top-p 2", "--top-p (2.0) must be in (0, 1]"),
        ("run --min-p 2", "--min-p (2.0) must be in [0, 1]"),
        ("run --repetition-penalty 0", "--repetition-penalty (0.0) must be positive"),
        ("run --prompt to --stop=", "--stop (['']) must not hold an empty string"),
        ("run --samples 0", "--samples (0) must be at least 1"),
        ("run --max-new-tokens 0", "--max-new-tokens (0) must be at least 1"),
        ("run --draft guess", "invalid choice: 'guess'"),
        ("run --draft prompt --samples 2", "--draft is for one text at a time"),
        ("run --draft prompt --json", "--draft is for one text at a time"),
        ("run --draft prompt --prompt a --prompt b", "--draft is for one text at a time"),
        ("run --seed -1", "--seed (-1) must not be negative"),
        ("run --temperature warm", "invalid float value: 'warm'"),
        ("", "the following arguments are required: PATH"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_a_wrong_option_is_refused_in_one_sentence(
    app: App, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    assert app(sample.main, f"sample.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("sample.py: error: ")
    assert reason in last
    assert "Traceback" not in err


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_drafts_do_not_change_the_text(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], temperature: float
) -> None:
    line = f"sample.py {trained} --prompt to --max-new-tokens 100 --seed 1 --temperature {temperature}"
    assert app(sample.main, line) == 0
    text = capfd.readouterr().out
    for draft in ("prompt", "corpus"):
        assert app(sample.main, f"{line} --draft {draft}") == 0
        assert capfd.readouterr().out == text


def test_a_draft_from_the_corpus_needs_a_run(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = next((trained / "checkpoints").iterdir())
    assert app(sample.main, f"sample.py {checkpoint} --prompt to --draft corpus") == 2
    assert "is not a run" in capfd.readouterr().err


def test_an_empty_prompt_is_refused(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        return sample.main([str(trained), "--prompt", ""])

    assert app(main, "sample.py") == 2
    assert "at least one token" in capfd.readouterr().err


def test_a_batch_of_texts_equals_single_texts(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = f"sample.py {trained} --max-new-tokens 20"
    alone = []
    for prompt, seed in (("to", 5), ("to", 6), ("be", 7), ("be", 8)):
        assert app(sample.main, f"{common} --prompt {prompt} --seed {seed}") == 0
        alone.append(capfd.readouterr().out)
    assert app(sample.main, f"{common} --prompt to --prompt be --samples 2 --seed 5") == 0
    out, err = capfd.readouterr()
    assert out == "".join(alone)
    assert err.splitlines() == [f"--- {number} of 4 ---" for number in range(1, 5)]


def test_json_contains_ids_and_log_probabilities(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(sample.main, f"sample.py {trained} --prompt to --max-new-tokens 5 --temperature 0 --json") == 0
    (line,) = capfd.readouterr().out.splitlines()
    content = json.loads(line)
    assert set(content) == {"prompt", "text", "ids", "log_probabilities", "stopped"}
    assert content["prompt"] == "to"
    assert len(content["text"]) == len(content["ids"]) == len(content["log_probabilities"]) == 5
    assert all(value <= 0 for value in content["log_probabilities"])


def test_a_stop_text_ends_the_text(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"sample.py {trained} --prompt to --max-new-tokens 200 --seed 1"
    assert app(sample.main, line) == 0
    whole = capfd.readouterr().out
    assert app(sample.main, f"{line} --stop e --stop t") == 0
    stopped = capfd.readouterr().out.removesuffix("\n")
    assert whole.startswith(stopped)
    assert whole[len(stopped)] in "et"


def test_a_prompt_comes_from_standard_input(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("to be\n"))
    assert app(sample.main, f"sample.py {trained} --prompt - --max-new-tokens 5") == 0
    out, err = capfd.readouterr()
    assert out.startswith("to be")
    assert err == ""


def test_the_default_prompt_is_that_of_the_run(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("not read"))
    assert app(sample.main, f"sample.py {trained} --max-new-tokens 5") == 0
    out, err = capfd.readouterr()
    assert len(out) == 6
    assert err == "sample.py: note: the prompt is '\\n': choose another one with --prompt\n"


def test_prompts_are_read_from_a_terminal(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: Iterator[str | BaseException] = iter(
        ["to", "", "Ω", KeyboardInterrupt(), UnicodeDecodeError("ascii", b"\xc3", 0, 1, "no"), "be", EOFError()]
    )

    def answer(prompt: str) -> str:
        assert prompt == "> "
        given = next(typed)
        if isinstance(given, BaseException):
            raise given
        return given

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert app(sample.main, f"sample.py {trained} --max-new-tokens 30 --temperature 0") == 0
    out, err = capfd.readouterr()
    assert "Ctrl-D: exit" in err
    assert "character 'Ω'" in err
    assert "(Ctrl-D exits)" in err
    assert "set PYTHONIOENCODING=utf-8" in err
    assert app(sample.main, f"sample.py {trained} --max-new-tokens 60 --temperature 0 --prompt to") == 0
    whole = capfd.readouterr().out
    assert out.replace("\n", "").startswith(whole.replace("\n", ""))  # Enter alone continued the text


def test_ctrl_c_stops_a_text_and_an_empty_prompt_continues_it(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, begun = TextGenerator.stream, []

    def interrupted(generator: TextGenerator, prompt: str, **options: Any) -> Iterator[str]:
        begun.append(prompt)
        for number, piece in enumerate(stream(generator, prompt, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield piece

    typed = iter(["to", ""])

    def answer(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(TextGenerator, "stream", interrupted)
    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert app(sample.main, f"sample.py {trained}") == 0
    assert begun[0] == "to"
    assert begun[1].startswith("to")
    assert len(begun[1]) == 2 + 3
    assert capfd.readouterr().out.replace("\n", "").startswith(begun[1].replace("\n", ""))


@pytest.fixture
def terminal(trained: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Return a function that starts the app in a process."""

    def start(*options: str, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(SAMPLE), str(trained), "--prompt", "to", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    return start


def test_a_closed_pipe_is_not_an_error(terminal: Callable[..., subprocess.Popen[bytes]]) -> None:
    with terminal("--max-new-tokens", "100000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_prints_one_line_and_exits_with_status_130(terminal: Callable[..., subprocess.Popen[bytes]]) -> None:
    with terminal("--max-new-tokens", "100000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == b"\ninterrupted\n"
    assert process.returncode == 130


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train("é")
    config = LanguageModelConfig(vocab_size=1, context_length=8, num_layers=1, num_heads=1, embed_dim=4)
    LanguageModel(config).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    ended = subprocess.run(
        [sys.executable, str(SAMPLE), str(tmp_path), "--prompt", "é", "--max-new-tokens", "3"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stdout.decode().split(), ended.stderr) == (0, ["????"], b"")
