"""Tests of training: merges equal the naive algorithm, are reproducible, and take near-linear time."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from axone.tokenizer import BPETokenizer, CharTokenizer, TokenizerError
from axone.tokenizer.bpe import train as module
from axone.tokenizer.bpe import train_merges
from axone.tokenizer.bpe.flat_words import IntArray

Naive = Callable[[Mapping[str, int], int], list[tuple[int, int]]]
Pieces = Callable[[str, str | None], list[str]]


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", r"\w+", None])
def test_merges_equal_the_naive_algorithm(
    pattern: str | None, corpus: str, naive_merges: Naive, pieces_of: Pieces
) -> None:
    text = corpus if pattern else corpus[:300]
    expected = naive_merges(Counter(pieces_of(text, pattern)), 300)
    assert BPETokenizer.train(text, 556, pattern=pattern).merges == expected


@pytest.mark.parametrize("alphabet", ["a", "ab", "aab ", "abcd e", "é文a "])
def test_merges_equal_the_naive_algorithm_for_overlapping_and_equally_frequent_pairs(
    alphabet: str, naive_merges: Naive, pieces_of: Pieces
) -> None:
    rng = random.Random(alphabet)
    for _ in range(60):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
        for pattern in ("gpt2", None):
            expected = naive_merges(Counter(pieces_of(text, pattern)), 40)
            assert BPETokenizer.train(text, 296, pattern=pattern).merges == expected, repr(text)


def test_equally_frequent_pairs_are_merged_smallest_first() -> None:
    assert BPETokenizer.train("dc ba", 258, pattern=r"\w+").merges == [(98, 97), (100, 99)]


def test_ids_are_bytes_then_merges_then_special_tokens() -> None:
    tokenizer = BPETokenizer.train("abab abab", 260, special_tokens=["<s>", "</s>"])
    assert tokenizer.vocab_size == 260
    assert [tokenizer.decode_bytes([id]) for id in range(256)] == [bytes((byte,)) for byte in range(256)]
    assert [tokenizer.decode([id]) for id in range(256, 260)] == ["ab", "abab", "<s>", "</s>"]
    assert tokenizer.special_tokens == {"<s>": 258, "</s>": 259}


def test_a_small_corpus_gives_a_small_vocabulary() -> None:
    tokenizer = BPETokenizer.train("abc", 1000, special_tokens=["<s>"])
    assert tokenizer.merges == [(97, 98), (256, 99)]
    assert tokenizer.vocab_size == 259
    assert tokenizer.special_tokens == {"<s>": 258}


def test_no_text_gives_bytes() -> None:
    for texts in ("", [], ["", ""]):
        tokenizer = BPETokenizer.train(texts, 300)
        assert tokenizer.merges == []
        assert tokenizer.decode(tokenizer.encode("héllo")) == "héllo"


def test_texts_are_read_once_and_tokens_do_not_cross_them(corpus: str, naive_merges: Naive, pieces_of: Pieces) -> None:
    lines = corpus.splitlines(keepends=True)

    def stream() -> Iterator[str]:
        yield from lines

    counts = Counter(piece for line in lines for piece in pieces_of(line, "gpt2"))
    assert BPETokenizer.train(stream(), 400).merges == naive_merges(counts, 144)


def test_special_tokens_are_removed_from_training_text(corpus: str) -> None:
    plain = BPETokenizer.train([corpus, corpus], 400, special_tokens=["<|end|>"])
    joined = BPETokenizer.train(f"{corpus}<|end|>{corpus}<|end|>", 400, special_tokens=["<|end|>"])
    assert joined.merges == plain.merges


@pytest.mark.parametrize("together", [1, 100, 1 << 20])
@pytest.mark.parametrize("shuffled", [False, True])
def test_merges_do_not_depend_on_the_order_of_the_corpus(
    together: int, shuffled: bool, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = corpus.splitlines(keepends=True)
    expected = BPETokenizer.train(lines, 400).merges
    monkeypatch.setattr(module, "_JOINED", together)
    if shuffled:
        random.Random(0).shuffle(lines)
    assert BPETokenizer.train(lines, 400).merges == expected


def test_the_file_does_not_depend_on_the_hash_seed(corpus: str, tmp_path: Path) -> None:
    code = (
        "import sys; from axone.tokenizer import BPETokenizer; text = sys.stdin.buffer.read().decode();"
        "BPETokenizer.train(text.splitlines(True), 500, special_tokens=['<s>', '</s>']).save(sys.argv[1])"
    )
    digests = set()
    for seed in range(10):
        path = tmp_path / f"{seed}.json"
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", code, path], check=True, input=corpus.encode(), env=environment)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_progress_counts_from_zero_to_all_merges(corpus: str) -> None:
    calls: list[tuple[int, int]] = []
    tokenizer = BPETokenizer.train(corpus, 500, special_tokens=["<s>"], progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 243)
    assert calls[-1] == (243, 243)
    assert calls == sorted(calls)
    assert tokenizer.vocab_size == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 255}, "at least 256"),
        ({"vocab_size": 257, "special_tokens": ["<a>", "<b>"]}, "at least 258"),
        ({"vocab_size": 300, "special_tokens": ["<a>", "<a>"]}, "distinct"),
        ({"vocab_size": 300, "special_tokens": [""]}, "non-empty"),
        ({"vocab_size": 300, "special_tokens": "<a>"}, "list of"),
        ({"vocab_size": 300, "special_tokens": ["\ud800"]}, "lone surrogate"),
        ({"vocab_size": 300, "pattern": "("}, "an unbalanced"),
        ({"vocab_size": 300, "pattern": "gpt-4"}, r"'gpt-4'\) matches only itself"),
        ({"vocab_size": 300, "pattern": ""}, r"''\) matches only itself"),
        ({"vocab_size": 300, "special_tokens": [7]}, "non-empty strings"),
        ({"vocab_size": 300, "texts": ["ok", "a\udc00"]}, "lone surrogate U.DC00 at position 1"),
    ],
)
def test_invalid_arguments_are_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        BPETokenizer.train(**({"texts": "abc"} | arguments))  # type: ignore[arg-type]  # mistakes on purpose
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 300, "texts": [b"bytes"]}, "must be a str, not bytes"),
        ({"vocab_size": 300, "texts": b"bytes"}, "must be a str, not int"),
        ({"vocab_size": 300.0}, "'float' object"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        BPETokenizer.train(**({"texts": "abc"} | arguments))  # type: ignore[arg-type]  # mistakes on purpose


@pytest.mark.parametrize("unit", ["a", " ", "\n", "^", "7", "'", "ab", "aab", "word "])
@pytest.mark.parametrize("pattern", ["gpt2", None])
def test_work_is_linear_in_the_corpus(unit: str, pattern: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the positions that merging visits, because a timing would be noisy."""
    visited = 0
    merge, run = train_merges._Merger.merge, train_merges._Merger.run

    def counting_merge(self: train_merges._Merger, key: int, positions: IntArray, token: int) -> IntArray:
        nonlocal visited
        visited += len(positions)
        return merge(self, key, positions, token)

    def counting_run(self: train_merges._Merger, positions: IntArray) -> train_merges._Run:
        nonlocal visited
        visited += len(positions)
        return run(self, positions)

    monkeypatch.setattr(train_merges._Merger, "merge", counting_merge)
    monkeypatch.setattr(train_merges._Merger, "run", counting_run)
    work = []
    for size in (50_000, 100_000):
        visited = 0
        BPETokenizer.train((unit * size)[:size], 400, pattern=pattern)
        work.append(visited)
    assert work[1] <= 2.5 * work[0] + 50


@pytest.mark.parametrize("texts", ["notes.txt", "data/corpus.jsonl", ["a.txt", "b.md"], Path("notes.txt")])
def test_a_path_is_not_a_text(texts: str | list[str] | Path) -> None:
    """Training on the letters of a file name was never intended."""
    with pytest.raises((TokenizerError, TypeError), match="read the file first"):
        BPETokenizer.train(texts, 300)  # type: ignore[arg-type]  # a path
    with pytest.raises((TokenizerError, TypeError), match="read the file first"):
        CharTokenizer.train(texts)  # type: ignore[arg-type]  # a path


def test_the_name_of_an_existing_file_is_not_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").write_text("the text", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", str(tmp_path / "corpus")):
        with pytest.raises(TokenizerError, match="is the name of a file"):
            BPETokenizer.train(name, 300)
    assert BPETokenizer.train("corpora", 257).vocab_size == 257


def test_texts_that_mention_files_are_texts() -> None:
    for texts in (
        "read notes.txt",
        "notes.txt\n",
        ".gz",
        ["a.txt", "the file a.txt"],
        iter(["a.txt"]),
        "a\x00b",
        "x" * 5000,
    ):
        assert BPETokenizer.train(texts, 257).vocab_size >= 256
