"""Tests of CharTokenizer: ids, errors, files."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.tokenizer import CharTokenizer, Tokenizer, TokenizerError, load

TEXT = "Grüße, мир 👋🏽!\n"


def test_ids_follow_code_points() -> None:
    tokenizer = CharTokenizer.train("banana")
    assert dict(tokenizer.vocabulary) == {"a": 0, "b": 1, "n": 2}
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("nab") == [2, 0, 1]
    assert repr(tokenizer) == "CharTokenizer(3 characters, unknown=None)"


def test_is_a_tokenizer() -> None:
    assert isinstance(CharTokenizer.train("a"), Tokenizer)


@given(st.text(min_size=1))
def test_round_trip(text: str) -> None:
    tokenizer = CharTokenizer.train([text, "\n"])  # with a second text, because the first may be the name of a file
    ids = tokenizer.encode(text)
    array = tokenizer.encode_to_array(text)
    assert array.dtype == np.int32
    assert array.tolist() == ids
    assert tokenizer.decode(ids) == tokenizer.decode(array) == text
    stream = tokenizer.stream_decoder()
    pieces = [stream.decode(ids[0]), stream.push(ids[1:]), stream.flush()]
    assert "".join(pieces) == text


def test_trains_on_several_texts() -> None:
    assert CharTokenizer.train(iter(["ab", "", "ca"])).vocabulary == CharTokenizer.train("abc").vocabulary


def test_empty_text_has_no_ids() -> None:
    tokenizer = CharTokenizer.train("a")
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(("text", "position"), [("z", 0), ("abcé", 3), ("a😀b", 1), ("a\x00", 1)])
def test_unknown_character_is_named_with_its_position(text: str, position: int) -> None:
    with pytest.raises(TokenizerError) as caught:
        CharTokenizer.train("abc").encode(text)
    message = str(caught.value)
    assert repr(text[position]) in message
    assert f"U+{ord(text[position]):04X}" in message
    assert f"position {position} " in message


def test_non_text_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        CharTokenizer.train("abc").encode(b"abc")  # type: ignore[arg-type]  # a mistake on purpose
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        CharTokenizer.train([b"abc"])  # type: ignore[list-item]  # likewise
    with pytest.raises(TokenizerError, match="empty token"):
        CharTokenizer.train("abc", unknown="")


def test_unknown_token_takes_the_last_id() -> None:
    tokenizer = CharTokenizer.train("abc", unknown="<unk>")
    assert tokenizer.vocabulary["<unk>"] == 3
    assert tokenizer.encode("a😀z") == [0, 3, 3]
    assert tokenizer.decode([0, 3]) == "a<unk>"
    assert tokenizer.encode("<") == [3]


def test_unknown_may_be_a_character_of_the_text() -> None:
    tokenizer = CharTokenizer.train("a?b", unknown="?")
    assert tokenizer.vocab_size == 3
    assert tokenizer.decode(tokenizer.encode("a!?")) == "a??"


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_lone_surrogate_is_refused(unknown: str | None) -> None:
    tokenizer = CharTokenizer.train("abc", unknown=unknown)
    with pytest.raises(TokenizerError, match=r"lone surrogate U\+D83D at position 1"):
        tokenizer.encode("a\ud83d")
    with pytest.raises(TokenizerError, match="lone surrogate"):
        CharTokenizer.train("\udc00", unknown=unknown)


@pytest.mark.parametrize("id", [-1, 3, 10**12])
def test_unknown_id_is_named(id: int) -> None:
    with pytest.raises(TokenizerError, match=f"id {id} is not in the vocabulary, which has ids 0 to 2"):
        CharTokenizer.train("abc").decode([0, id])


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(TokenizerError, match="text is empty"):
        CharTokenizer.train("")
    with pytest.raises(TokenizerError, match="empty"):
        CharTokenizer({})
    with pytest.raises(TokenizerError, match="without gaps"):
        CharTokenizer({"a": 0, "b": 2})
    with pytest.raises(TokenizerError, match="one character"):
        CharTokenizer({"a": 0, "bc": 1})
    with pytest.raises(TokenizerError, match="empty token"):
        CharTokenizer({"a": 0, "": 1})
    with pytest.raises(TokenizerError, match="unknown token"):
        CharTokenizer({"a": 0}, unknown="?")


@pytest.mark.parametrize("unknown", [None, "<unk>", "!"])
def test_file_round_trip(tmp_path: Path, unknown: str | None) -> None:
    tokenizer = CharTokenizer.train(TEXT, unknown=unknown)
    tokenizer.save(tmp_path)
    tokenizer.save(tmp_path / "other.json")
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "other.json", str(tmp_path)):
        loaded = load(path)
        assert isinstance(loaded, CharTokenizer)
        assert loaded.vocabulary == tokenizer.vocabulary
        assert loaded.unknown == unknown
    assert CharTokenizer.load(tmp_path).encode(TEXT) == tokenizer.encode(TEXT)


def test_a_loaded_file_keeps_its_own_ids(tmp_path: Path) -> None:
    CharTokenizer({"b": 0, "a": 1}).save(tmp_path)
    assert load(tmp_path).encode("ab") == [1, 0]


def edited(tmp_path: Path, *keys: str, value: object) -> Path:
    document = CharTokenizer.train("abc").to_document()
    inner = document
    for key in keys[:-1]:
        step = inner[key]
        assert isinstance(step, dict)
        inner = step
    inner[keys[-1]] = value
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["version"], "2.0"),
        (["normalizer"], {"type": "NFC"}),
        (["added_tokens"], [{"id": 3}]),
        (["surprise"], 1),
        (["model", "type"], "WordPiece"),
        (["model", "dropout"], 0.1),
        (["model", "byte_fallback"], True),
        (["model", "fuse_unk"], 0),
        (["model", "unk_token"], 7),
        (["model", "surprise"], None),
        (["model", "vocab"], []),
        (["model", "vocab"], {"a": 0, "b": 0}),
        (["model", "vocab"], {"a": True}),
        (["model", "vocab"], {"a": 1.0}),
        (["model", "vocab"], {"a": -1}),
        (["model", "vocab"], {"\ud800": 0}),
        (["model", "merges"], [["a", "b"]]),
        (["model"], None),
    ],
)
def test_unknown_parts_are_refused_by_name(tmp_path: Path, keys: list[str], value: object) -> None:
    with pytest.raises(TokenizerError, match=keys[-1] if keys[-1] != "vocab" else "vocab|tokens"):
        CharTokenizer.load(edited(tmp_path, *keys, value=value))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}', b"1" * 5000, b'{"a": 1, "a": 2}', b"[]", b"null"],
)
def test_invalid_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError):
        load(path)


def test_saving_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    CharTokenizer.train("abc").save(tmp_path)
    CharTokenizer.train("xyz").save(tmp_path)
    assert load(tmp_path).vocab_size == 3
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CharTokenizer.train("abc").save(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        CharTokenizer.train("wxyz").save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    assert load(tmp_path).vocab_size == 3


def test_saving_syncs_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append("fsync")
        fsync(descriptor)

    def spy_replace(path: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    CharTokenizer.train("abc").save(tmp_path)
    assert calls[:2] == ["fsync", "rename"]
    assert calls[2:] == ["fsync"] or sys.platform == "win32"


def test_saving_honours_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        CharTokenizer.train("abc").save(tmp_path)
    finally:
        os.umask(old)
    if os.name == "posix":
        assert (tmp_path / "tokenizer.json").stat().st_mode & 0o777 == 0o640


def test_saving_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        CharTokenizer.train("abc").save(tmp_path / "missing" / "tokenizer.json")


def test_a_byte_order_mark_is_explained() -> None:
    """It became a token of the vocabulary, or an unknown character without a hint."""
    with pytest.raises(TokenizerError, match=r"byte order mark \(U\+FEFF\) at position 0, .* encoding='utf-8-sig'"):
        CharTokenizer.train("abc").encode("\ufeffabc")


def test_a_byte_order_mark_before_a_file_is_skipped(tmp_path: Path) -> None:
    CharTokenizer.train("abc").save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).encode("ab") == [0, 1]
