"""Cache of token files: reused for the same texts, made again if damaged, and done without where it cannot be written."""

import errno
from pathlib import Path

import numpy as np
import pytest
from disk_shim import DiskCall, DiskShim

from axone.llm import TextFiles, cached_dataset, user_cache
from axone.tokenizer import CharTokenizer, Tokenizer

TEXTS = ["a b", "c"]


class Training:
    """Trains a tokenizer, and counts how often."""

    def __init__(self, text: str = "abc \n") -> None:
        self.count = 0
        self._text = text

    def __call__(self) -> Tokenizer:
        self.count += 1
        return CharTokenizer.train(self._text)


def test_a_tokenizer_is_trained_once_for_the_same_texts(tmp_path: Path) -> None:
    train = Training()
    first = cached_dataset(TEXTS, "name", train, cache=tmp_path)
    again = cached_dataset(TEXTS, "name", train, cache=tmp_path)
    assert train.count == 1
    assert again.tokenizer.decode(again.tokens.tolist()) == "a b\nc"
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert again.num_documents == 2
    cached_dataset(["a", "b c"], "name", train, cache=tmp_path)
    assert train.count == 2
    cached_dataset(["a", "b c"], "other name", train, cache=tmp_path)
    assert train.count == 3


def test_a_given_tokenizer_is_used_and_not_kept(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train("cba \n")
    for _ in range(2):
        dataset = cached_dataset(TEXTS, "name", tokenizer, cache=tmp_path)
        assert dataset.tokenizer is tokenizer
        assert dataset.path is not None
    assert not list(tmp_path.rglob("tokenizer.json"))


def test_small_texts_of_known_size_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc", encoding="utf-8")
    texts = TextFiles(tmp_path / "a.txt")
    assert cached_dataset(texts, "name", Training(), cache=tmp_path, min_bytes=4).path is None
    assert cached_dataset(texts, "name", Training(), cache=tmp_path, min_bytes=3).path is not None


@pytest.mark.parametrize("name", ["tokens.bin", "tokens.bin.json", "tokens.bin.documents", "tokenizer.json"])
def test_damaged_entries_are_made_again(tmp_path: Path, name: str) -> None:
    cached_dataset(TEXTS, "name", Training(), cache=tmp_path)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes()[:-3])
    again = cached_dataset(TEXTS, "name", Training("cba \n"), cache=tmp_path)
    assert again.tokenizer.decode(again.tokens.tolist()) == "a b\nc"
    assert again.num_documents == 2


@pytest.mark.parametrize("refused", ["mkdir", "write"])
def test_a_cache_that_cannot_be_written_loses_no_tokenizer(tmp_path: Path, refused: str) -> None:
    def refuse(event: DiskCall) -> None:
        if event.name == refused:
            raise OSError(errno.EROFS, "Read-only file system")

    train = Training()
    with (
        DiskShim(tmp_path, before=refuse),
        pytest.warns(UserWarning, match="tokens stay in memory: .*Read-only") as caught,
    ):
        dataset = cached_dataset(TEXTS, "name", train, cache=tmp_path)
    assert caught[0].filename == __file__
    assert train.count == 1
    assert dataset.path is None
    assert dataset.tokenizer.decode(dataset.tokens.tolist()) == "a b\nc"


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AXONE_CACHE", str(tmp_path))
    assert user_cache() == tmp_path
    monkeypatch.delenv("AXONE_CACHE")
    assert "axone" in user_cache().parts
