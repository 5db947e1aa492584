"""The README's examples run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_example_has_about_twenty_lines() -> None:
    assert 15 <= len(EXAMPLES[0].splitlines()) <= 22


def test_the_network_learns(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLES[0], names)  # noqa: S102 - text of this repository
    assert names["loss"].item() < 0.01
    assert capsys.readouterr().out.startswith("loss 0.00")


def test_the_custom_operation() -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLES[1], names)  # noqa: S102 - text of this repository
    assert "softplus" in names
