"""Token datasets: splits, batches and token files."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from axone.llm import CheckpointError, TokenDataset
from axone.llm.data import sampler
from axone.tokenizer import CharTokenizer


def test_repr_shows_tokens_documents_and_tokenizer(tokenizer: CharTokenizer) -> None:
    begin = f"TokenDataset(4 tokens, 1 document, {tokenizer!r})"
    assert repr(TokenDataset.from_text("to t", tokenizer)) == begin
    assert (
        repr(TokenDataset.from_texts(["to", "to"], tokenizer)) == f"TokenDataset(5 tokens, 2 documents, {tokenizer!r})"
    )


def test_targets_are_inputs_shifted_by_one(dataset: TokenDataset) -> None:
    inputs, targets = dataset.batch(0, 0, 4, 16)
    assert inputs.shape == targets.shape == (4, 16)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_writing_to_the_starts_of_a_batch_cannot_change_a_later_batch() -> None:
    starts = sampler.batch_starts(0, 3, 4, 16, 1000, "random")
    with pytest.raises(ValueError, match="read-only"):
        starts[0] = 7
    assert not sampler._shuffled(0, 0, 9).flags.writeable


def test_a_batch_is_a_function_of_seed_and_number(dataset: TokenDataset) -> None:
    first, again, other = (dataset.batch(*key, 4, 16)[0] for key in ((0, 7), (0, 7), (0, 8)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_consecutive_sequences_cover_the_text_once(dataset: TokenDataset) -> None:
    inputs = dataset.read(dataset.sequence_starts(16), 16)[0].reshape(-1)
    np.testing.assert_array_equal(inputs, dataset.tokens[: len(inputs)])
    assert len(dataset) - 1 - len(inputs) < 16


def test_a_limit_spreads_the_sequences_evenly(dataset: TokenDataset) -> None:
    inputs, _ = dataset.read(dataset.sequence_starts(16, limit=10), 16)
    assert len(inputs) == 10
    last = (len(dataset) - 1) // 16 * 9 // 10 * 16
    np.testing.assert_array_equal(inputs[-1], dataset.tokens[last : last + 16])


def test_a_split_keeps_order_and_loses_nothing(dataset: TokenDataset) -> None:
    train, validation = dataset.split(0.1)
    assert len(train) == int(len(dataset) * 0.9)
    np.testing.assert_array_equal(np.concatenate([train.tokens, validation.tokens]), dataset.tokens)


def test_num_bytes_is_the_length_of_the_text_in_utf_8() -> None:
    text = "äöü and 日本語 "
    assert TokenDataset.from_text(text, CharTokenizer.train(text)).num_bytes == len(text.encode())


def test_a_token_file_holds_the_same_tokens(dataset: TokenDataset, tmp_path: Path) -> None:
    opened = dataset.write(tmp_path / "tokens.bin")
    assert not opened.tokens.flags.owndata
    np.testing.assert_array_equal(opened.tokens, dataset.tokens)


def test_a_token_file_cut_short_is_refused(dataset: TokenDataset, tmp_path: Path) -> None:
    path = tmp_path / "tokens.bin"
    dataset.write(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="is damaged"):
        TokenDataset.open(path, dataset.tokenizer)


def test_a_text_shorter_than_the_context_is_refused(dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match=r"dataset \(16 tokens\) must be longer than context_length \(16\)"):
        dataset.part(0, 16).batch(0, 0, 1, 16)


TEXTS = ["the first text", "a second, somewhat longer one", "", "the third"]


@pytest.fixture
def tokenizer() -> CharTokenizer:
    return CharTokenizer.train("\n".join(TEXTS) + " ")


def test_documents_are_joined_by_the_separator(tokenizer: CharTokenizer, tmp_path: Path) -> None:
    for path in (None, tmp_path / "tokens.bin"):
        dataset = TokenDataset.from_texts(TEXTS, tokenizer, path)
        assert tokenizer.decode(dataset.tokens.tolist()) == "\n".join(TEXTS)
        assert dataset.num_documents == 4
        spaced = TokenDataset.from_texts(TEXTS, tokenizer, path, separator=tokenizer.encode("  "))
        assert tokenizer.decode(spaced.tokens.tolist()) == "  ".join(TEXTS)


@pytest.mark.parametrize("filed", [True, False])
def test_a_split_by_documents_cuts_no_document(tokenizer: CharTokenizer, tmp_path: Path, filed: bool) -> None:
    dataset = TokenDataset.from_texts(TEXTS, tokenizer, tmp_path / "tokens.bin" if filed else None)
    train, validation = dataset.split(0.4, by="document")
    assert tokenizer.decode(train.tokens.tolist()) == "\n".join([*TEXTS[:2], ""])
    assert tokenizer.decode(validation.tokens.tolist()) == "\n".join(TEXTS[2:])
    assert (train.num_documents, validation.num_documents) == (2, 2)
    half, _ = dataset.split(0.5)
    assert half.num_documents == 2
    first, rest = train.split(0.5, by="document")
    assert tokenizer.decode(first.tokens.tolist()) == TEXTS[0] + "\n"
    assert rest.start == len(first)
    with pytest.raises(ValueError, match="needs two documents, and there is one"):
        first.split(by="document")
    with pytest.raises(ValueError, match=r"validation \(1\) must be in \(0, 1\)"):
        dataset.split(1)


def test_a_token_file_is_written_once(
    tokenizer: CharTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.bin"
    made: list[str] = []
    original = CharTokenizer.encode_to_array

    def encode(self: CharTokenizer, text: str) -> object:
        made.append(text)
        return original(self, text)

    monkeypatch.setattr(CharTokenizer, "encode_to_array", encode)

    def texts_encoded(texts: list[str], tokenizer: CharTokenizer) -> int:
        made.clear()
        dataset = TokenDataset.from_texts(texts, tokenizer, path)
        assert tokenizer.decode(dataset.tokens.tolist()) == "\n".join(texts)
        return len([text for text in made if text != "\n"])

    assert texts_encoded(TEXTS, tokenizer) == 4
    assert texts_encoded(TEXTS, tokenizer) == 0
    assert texts_encoded(TEXTS[::-1], tokenizer) == 4
    assert texts_encoded(["".join(TEXTS)], tokenizer) == 1
    other = CharTokenizer.train("\n".join(TEXTS) + " Ω")
    assert texts_encoded(["".join(TEXTS)], other) == 1
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert texts_encoded(["".join(TEXTS)], other) == 1


def test_a_corpus_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """32 texts of a million characters are written with the memory of a few."""

    class Texts:
        def __iter__(self) -> Iterator[str]:
            return (chr(97 + number % 26) * 1_000_000 for number in range(32))

    tokenizer = CharTokenizer.train("abcdefghijklmnopqrstuvwxyz\n")
    tracemalloc.start()
    try:
        dataset = TokenDataset.from_texts(Texts(), tokenizer, tmp_path / "tokens.bin")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(dataset) == 32_000_031
    assert not dataset.tokens.flags.owndata
    assert peak < 20_000_000  # the tokens alone take 64


def test_an_iterator_is_refused_for_a_token_file(tokenizer: CharTokenizer, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="texts for a token file are iterated twice"):
        TokenDataset.from_texts(iter(TEXTS), tokenizer, tmp_path / "tokens.bin")
    assert len(TokenDataset.from_texts(iter(TEXTS), tokenizer)) == len("\n".join(TEXTS))


def test_an_empty_text_is_refused(tokenizer: CharTokenizer, tmp_path: Path) -> None:
    for texts in ([], [""]):
        for path in (None, tmp_path / "tokens.bin"):
            with pytest.raises(ValueError, match=r"text \(0 tokens\) must not be empty"):
                TokenDataset.from_texts(texts, tokenizer, path)
    assert list(tmp_path.iterdir()) == []


def test_large_vocabularies_take_four_bytes_per_token() -> None:
    many = "".join(chr(point) for point in range(0x4E00, 0x4E00 + 70_000) if not 0xD800 <= point < 0xE000)
    dataset = TokenDataset.from_text(many, CharTokenizer.train(many))
    assert dataset.tokens.dtype == np.uint32
    assert TokenDataset.from_text("abc", CharTokenizer.train("abc")).tokens.dtype == np.uint16


def test_a_file_of_another_tokenizer_is_refused(tokenizer: CharTokenizer, tmp_path: Path) -> None:
    TokenDataset.from_texts(TEXTS, tokenizer, tmp_path / "tokens.bin")
    with pytest.raises(CheckpointError, match="was made by another tokenizer"):
        TokenDataset.open(tmp_path / "tokens.bin", CharTokenizer.train("\n".join(TEXTS) + "Ω"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokens": 3}, "3 tokens of uint16 have another size"),
        ({"dtype": "float32"}, r"dtype \('float32'\) must be 'uint16' or 'uint32'"),
        ({"documents": 3}, "must hold the ends of 3 documents"),
        ({"sha256": "0"}, "is damaged"),
        ({"tokens": "many"}, r"tokens \('many'\) must be a whole number"),
    ],
)
def test_wrong_metadata_are_refused(
    tokenizer: CharTokenizer, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    TokenDataset.from_texts(TEXTS, tokenizer, tmp_path / "tokens.bin")
    path = tmp_path / "tokens.bin.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=reason):
        TokenDataset.open(tmp_path / "tokens.bin", tokenizer)
