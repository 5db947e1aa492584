"""apps/tokenize_text.py: training, showing and wrong options."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import tokenize_text
from axone.tokenizer import BPETokenizer, CharTokenizer, load

App = Callable[[Callable[[], int], str], int]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "bpe.json"
    BPETokenizer.train("low lower lowest", 260, special_tokens=["<|end|>"]).save(path)
    return path


def shown(*arguments: str) -> Callable[[], int]:
    return lambda: tokenize_text.main(["show", *arguments])


def test_training_saves_a_tokenizer(app: App, text_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"tokenize_text.py train {text_file} --vocab-size 300 --special <|end|> --special <|pad|> --out new.json"
    assert app(tokenize_text.main, line) == 0
    out, err = capfd.readouterr()
    assert out.startswith("new.json: 300 tokens, trained in ")
    assert "bytes, " in out
    assert "characters per token" in out
    assert err == ""
    tokenizer = load("new.json")
    assert isinstance(tokenizer, BPETokenizer)
    assert tokenizer.special_tokens == {"<|end|>": 298, "<|pad|>": 299}


def test_training_takes_a_folder_and_characters(app: App, text_file: Path) -> None:
    assert app(tokenize_text.main, f"tokenize_text.py train {text_file.parent} --characters") == 0
    assert isinstance(load("tokenizer.json"), CharTokenizer)


@pytest.mark.parametrize(("pattern", "expected"), [("none", None), (r"\p{L}+", r"\p{L}+")])
def test_training_takes_a_pattern(app: App, text_file: Path, pattern: str, expected: str | None) -> None:
    line = f"tokenize_text.py train {text_file} --vocab-size 260 --pattern {pattern}"
    assert app(tokenize_text.main, line) == 0
    tokenizer = load("tokenizer.json")
    assert isinstance(tokenizer, BPETokenizer)
    assert tokenizer.pattern == expected


def test_tokens_are_shown_with_ids_and_statistics(app: App, tokenizer: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(shown(str(tokenizer), "low low\n文<|end|>\x1b"), "tokenize_text.py") == 0
    assert capfd.readouterr().out == (
        "low[257] low[258]⏎[10]\n<e6>[230]<96>[150]<87>[135]<|end|>[259]<U+001B>[27]\n"
        "8 tokens of 19 bytes: 2.38 bytes, 2.12 characters per token\n"
    )
    assert app(shown(str(tokenizer), "low low", "--no-ids"), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith("low| low|\n")
    assert app(shown(str(tokenizer), ""), "tokenize_text.py") == 0
    assert capfd.readouterr().out == "\n0 tokens of 0 bytes\n"


def test_colors_are_for_terminals_or_on_request(
    app: App, tokenizer: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    always = "\x1b[30;104mlow\x1b[0m\x1b[2m[257]\x1b[0m\x1b[7;1m<|end|>\x1b[0m\x1b[2m[259]\x1b[0m\n"
    assert app(shown(str(tokenizer), "low<|end|>", "--color", "always"), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith(always)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert app(shown(str(tokenizer), "low<|end|>"), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith(always)
    monkeypatch.setenv("NO_COLOR", "1")
    assert app(shown(str(tokenizer), "low<|end|>"), "tokenize_text.py") == 0
    assert "\x1b" not in capfd.readouterr().out


def test_text_comes_from_a_file_or_standard_input(
    app: App, tokenizer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "low.txt").write_text("low", encoding="utf-8")
    assert app(shown(str(tokenizer), "--file", "low.txt"), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith("low[257]\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"low low")))
    assert app(shown(str(tokenizer)), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith("low[257] low[258]\n")


def test_a_terminal_that_is_not_utf_8_shows_code_points(
    app: App, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BPETokenizer.train("文文 文文", 260).save("chinese.json")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert app(shown("chinese.json", "文\nlow", "--no-ids"), "tokenize_text.py") == 0
    assert written.getvalue().startswith(b"<U+6587>|<U+000A>|\nl|o|w|\n")


def test_standard_input_that_is_not_utf_8_is_refused(
    app: App, tokenizer: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"low\xff")))
    assert app(shown(str(tokenizer)), "tokenize_text.py") == 2
    assert "is not valid UTF-8 (first bad byte at 3)" in capfd.readouterr().err


def test_tokens_of_characters_are_shown(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    CharTokenizer.train("abc\n").save("characters.json")
    assert app(shown("characters.json", "ab\n"), "tokenize_text.py") == 0
    assert capfd.readouterr().out.startswith("a[1]b[2]⏎[0]\n3 tokens")


def test_the_tokenizer_of_a_run_is_opened(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(shown(str(trained), "to"), "tokenize_text.py") == 0
    assert "2 tokens of 2 bytes" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "train|show"),
        ("train", "the following arguments are required: TEXT"),
        ("train nothing.txt", "nothing.txt does not exist"),
        ("train bpe.json --out bpe.json", "bpe.json exists"),
        ("train bpe.json --vocab-size 100", "--vocab-size (100) must be at least 256"),
        ("train bpe.json --vocab-size many", "invalid int value"),
        ("train bpe.json --pattern (", "an unbalanced ("),
        ("train bpe.json --special <a> --special <a>", "distinct, non-empty"),
        ("train bpe.json --vocab-size 257 --out missing/new.json", "missing does not exist"),
        ("show", "the following arguments are required: TOKENIZER"),
        ("show nothing.json text", "nothing.json"),
        ("show empty text", "tokenizer.json"),
        ("show damaged.json text", "is not valid JSON"),
        ("show bpe.json text --file bpe.json", "exclude each other"),
        ("show bpe.json --file nothing.txt", "nothing.txt does not exist"),
        ("show bpe.json text --color loud", "invalid choice"),
    ],
)
@pytest.mark.usefixtures("tokenizer")
def test_a_wrong_option_is_refused_in_one_sentence(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    (tmp_path / "damaged.json").write_text("{", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert app(tokenize_text.main, f"tokenize_text.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert "error: " in last
    assert reason in last
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
