"""Texts: the standard library, files, folders."""

import errno
import os
import re
from pathlib import Path

import pytest

from axone.llm import TextFiles, bigram_loss, python_source, read_text
from axone.llm.data import corpus
from axone.tokenizer import CharTokenizer


def test_the_standard_library_is_a_few_megabytes_of_ascii() -> None:
    text = python_source()
    assert text.isascii()
    assert 2_000_000 < len(text) < 8_000_000
    assert "def " in text
    assert text == python_source()


def test_a_folder_is_its_texts_sorted(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.md").write_text("first", encoding="utf-8")
    (tmp_path / ".hidden").write_text("not this", encoding="utf-8")
    (tmp_path / "picture.bin").write_bytes(b"\xff\xfe\x00")
    assert read_text(tmp_path) == "first\nsecond"


def test_files_without_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("für".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("words".encode("utf-16-le"))
    for path, reason in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "empty.txt", "is empty"),
        (tmp_path / "latin.txt", "first bad byte at 1"),
        (tmp_path / "wide.txt", "has a NUL byte"),
        (tmp_path, "has no text files"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_text(path)


@pytest.mark.parametrize(("name", "owner", "function"), [("notes", os, "scandir"), ("notes/a.txt", Path, "open")])
def test_a_folder_is_never_read_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, owner: object, function: str
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("first", encoding="utf-8")
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    locked, usual = tmp_path / name, getattr(owner, function)

    def opened(path: Path, *how: object, **options: object) -> object:
        if Path(path) == locked:  # as for a user without the right; root has them all
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, *how, **options)

    monkeypatch.setattr(owner, function, opened)
    with pytest.raises(ValueError, match=f"^{re.escape(str(locked))} cannot be read: Permission denied$"):
        TextFiles(tmp_path)


def test_the_bigram_baseline_predicts_an_alternating_text() -> None:
    text = "abababababababababab" * 20
    ids = CharTokenizer.train(text).encode_to_array(text)
    assert bigram_loss(ids[:300], ids[300:], 2) < 0.01


def test_a_long_file_comes_in_parts_that_new_lines_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_PART", 50)
    lines = [f"line {number} of a long file, größer\n" * (number % 3) for number in range(40)]
    for name, text in (
        ("a.txt", "".join(lines)),
        ("b.txt", "no line ends here " * 20),
        ("c.txt", "x" * 49 + "\n" + "y" * 60 + "\n"),
        ("d.txt", "\n" * 120),
        ("e.txt", "short"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        texts = TextFiles(tmp_path / name)
        assert "\n".join(texts) == text
        assert list(texts) == list(texts)
    assert len(list(TextFiles(tmp_path / "a.txt"))) > 5
    assert max(map(len, TextFiles(tmp_path / "a.txt"))) < 120


def test_the_first_bad_byte_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_PART", 50)
    for good in (0, 1, 49, 50, 99, 1000):
        (tmp_path / "a").write_bytes("ü".encode() * good + b"\xff" + b"rest")
        with pytest.raises(ValueError, match=rf"first bad byte at {2 * good}\): convert it first"):
            list(TextFiles(tmp_path / "a"))
    (tmp_path / "a").write_bytes("fine ü".encode()[:-1])
    with pytest.raises(ValueError, match="first bad byte at 5"):
        list(TextFiles(tmp_path / "a"))


def test_a_byte_order_mark_is_not_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfwords")
    assert read_text(tmp_path / "a.txt") == "words"
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(ValueError, match=r"b\.txt is empty"):
        read_text(tmp_path / "b.txt")
