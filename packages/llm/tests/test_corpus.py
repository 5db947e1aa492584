"""Texts: the standard library, files, folders."""

from pathlib import Path

import pytest

from axone.llm import bigram_loss, python_source, read_text
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


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("für".encode("latin-1"))
    for path, reason in (
        (tmp_path / "missing", "is not there"),
        (tmp_path / "empty.txt", "is empty"),
        (tmp_path / "latin.txt", "is not at byte 1"),
        (tmp_path, "holds none"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_text(path)


def test_counted_pairs_beat_chance_and_know_what_follows() -> None:
    text = "abababababababababab" * 20
    ids = CharTokenizer.train(text).encode_to_array(text)
    assert bigram_loss(ids[:300], ids[300:], 2) < 0.01
