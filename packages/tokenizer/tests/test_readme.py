"""Tests that the examples of the README run."""

import re
from pathlib import Path
from typing import Any

import pytest

from axone.tokenizer import BPETokenizer

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_training_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES[0], {})  # noqa: S102 - our own text
    assert capsys.readouterr().out.startswith("[b'the', b' ")
    assert (tmp_path / "tokenizer.json").exists()


def test_exchange_example() -> None:
    """`test_frozen` compares the ids."""
    names: dict[str, Any] = {}
    exec(EXAMPLES[1], names)  # noqa: S102 - our own text
    assert isinstance(names["again"], BPETokenizer)
    assert len(names["ranks"]) == names["tokenizer"].vocab_size - 1
