"""Folders of texts: the files that are read and skipped are listed, and the end of each file is held out."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.cli import evaluate, tokenize_text, tokens, train
from axone.llm import TextFiles, TokenDataset, Trainer

App = Callable[[Callable[[], int], str], int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "texts"
    path.mkdir()
    for name in "abc":
        (path / f"{name}.txt").write_text(f"{name * 9}\n" * 400, encoding="utf-8")
    (path / "empty.txt").touch()
    (path / "picture.png").write_bytes(b"\x89PNG")
    (path / ".hidden").write_text("hidden", encoding="utf-8")
    return path


def text_of(data: object) -> str:
    """Return the text of a dataset."""
    assert isinstance(data, TokenDataset)
    return data.tokenizer.decode(data.tokens.tolist())


READ = "files            3 read: a.txt, b.txt, c.txt"
SKIPPED = "                 2 skipped: empty.txt is empty, picture.png is not valid UTF-8 (first bad byte at 0)"


@pytest.mark.usefixtures("folder", "quick")
def test_a_training_lists_files_and_holds_out_the_end_of_each(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(train.main, "train.py --data texts --preset tiny --steps 1 --out run") == 0
    assert capfd.readouterr().out.splitlines()[:2] == [READ, SKIPPED]
    resumed = Trainer.resume("run")
    for part, fraction in ((resumed.train_data, 0.9), (resumed.validation_data, 0.1)):
        for name in "abc":
            assert text_of(part).count(name) == pytest.approx(3600 * fraction, abs=20)
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["held_out"] == train.ENDS
    app(train.main, "train.py --data texts --preset tiny --steps 1 --out last --split document")
    assert set(text_of(Trainer.resume("last").validation_data)) == {"c", "\n"}


@pytest.mark.usefixtures("folder")
def test_the_plan_says_which_part_is_held_out(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(train.main, "train.py --data texts --preset tiny --steps 1 --out run") == 0
    assert re.search(r"corpus .* at the ends of the files 1,\d+ tokens held out", capfd.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_other_commands_list_files(app: App, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app(tokenize_text.main, "tokenize_text.py train texts --characters") == 0
    assert capfd.readouterr().err.splitlines() == [READ, SKIPPED]
    assert app(evaluate.main, f"evaluate.py {trained} --data texts --max-tokens 9") == 2  # it lacks a letter
    assert capfd.readouterr().err.splitlines()[:2] == [READ, SKIPPED]


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("text", encoding="utf-8")
    assert tokens.list_files(TextFiles(tmp_path)) == [
        "files            10 read: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt and 2 more"
    ]
