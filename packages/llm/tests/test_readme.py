"""The program in the README trains and samples, in thirty lines."""

import re
from pathlib import Path

import pytest

from axone.llm import Run, load

README = Path(__file__).parents[1] / "README.md"


def test_thirty_lines_train_and_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line]) <= 30
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own README
    printed = capsys.readouterr().out
    (bits,) = re.findall(r"([\d.]+) bits a byte", printed)
    assert float(bits) < 3
    assert len(printed.split("bits a byte\n\n")[1]) > 50
    assert Run("runs/small").latest().step == 200
    assert load("runs/small")[1].vocab_size == 512
