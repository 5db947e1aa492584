"""apps/sample.py: text on standard output, and every way to get it wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

import sample

App = Callable[[Callable[[], int], str], int]


def test_the_text_goes_to_standard_output(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
        ("run --prompt Ω", "The character 'Ω' (U+03A9) at position 0"),
        ("nothing", "nothing: is not a folder"),
        (".", "is no model"),
        ("run --temperature -1", "temperature must be at least 0, and is -1.0"),
        ("run --top-k 0", "top_k must be at least 1"),
        ("run --top-p 2", "top_p must be in (0, 1]"),
        ("run --max-new-tokens 0", "--max-new-tokens must be at least 1"),
        ("run --seed -1", "--seed must not be negative"),
        ("run --temperature warm", "invalid float value: 'warm'"),
        ("", "the following arguments are required: FOLDER"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_what_a_user_gets_wrong_is_one_sentence(
    app: App, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    assert app(sample.main, f"sample.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("sample.py: error: ")
    assert reason in last
    assert "Traceback" not in err


def test_an_empty_prompt_is_refused(
    app: App, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> int:
        return sample.main([str(trained), "--prompt", ""])

    assert app(main, "sample.py") == 2
    assert "at least one token" in capfd.readouterr().err
