"""The programs in the README run and print what the text says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_twenty_lines_separate_the_spirals(capsys: pytest.CaptureFixture[str]) -> None:
    spiral = PROGRAMS[0]
    assert len([line for line in spiral.splitlines() if line]) <= 20
    exec(compile(spiral, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own README
    (accuracy,) = re.findall(r"accuracy ([\d.]+)%", capsys.readouterr().out)
    assert float(accuracy) >= 99


def test_a_model_is_composed_of_layers(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PROGRAMS[1], "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own README
    assert "blocks.3.mlp" in capsys.readouterr().out
