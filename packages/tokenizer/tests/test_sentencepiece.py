"""Tests of SentencePieceTokenizer: spaces, byte fallback, the forms of files, GGUF scores, damaged files."""

import copy
import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.tokenizer import BPETokenizer, SentencePieceTokenizer, Tokenizer, TokenizerError, from_gguf, load
from axone.tokenizer.bpe import encoder as module

Document = dict[str, object]
Random = Callable[[random.Random, int], str]
FROZEN = json.loads((Path(__file__).parent / "frozen" / "real.json").read_text(encoding="utf-8"))
K = "tokenizer.ggml."


@pytest.fixture
def document() -> Document:
    """The first merges of Llama-2."""
    loaded = copy.deepcopy(FROZEN["llama2"]["document"])
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def metadata() -> Document:
    """The first merges of Mistral, as in a GGUF file."""
    loaded = copy.deepcopy(FROZEN["mistral"]["metadata"])
    assert isinstance(loaded, dict)
    return loaded


def section(document: object, *path: str | int) -> Document:
    for step in path:
        document = document[step]  # type: ignore[index]  # JSON
    assert isinstance(document, dict)
    return document


def naive(tokenizer: SentencePieceTokenizer, text: str) -> list[int]:
    """Merging as SentencePiece defines it: the pair with the highest score, the leftmost of equals."""
    model = tokenizer._model
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        pairs = [a + b for a, b in pairwise(symbols)]
        found = [(-model.scores[model.vocabulary[pair]], i) for i, pair in enumerate(pairs) if pair in model.vocabulary]
        if not found:
            break
        _, i = min(found)
        symbols[i : i + 2] = [pairs[i]]
    ids = ([model.vocabulary.get(symbol)] for symbol in symbols)
    return [
        id
        for symbol, (own,) in zip(symbols, ids)
        for id in ([own] if own is not None else bytes_of(model.byte_ids, symbol))
    ]


def bytes_of(byte_ids: object, symbol: str) -> list[int]:
    assert isinstance(byte_ids, list)
    return [byte_ids[byte] for byte in symbol.encode()]


def test_is_a_tokenizer(document: Document) -> None:
    tokenizer = SentencePieceTokenizer.from_document(document)
    assert isinstance(tokenizer, Tokenizer)
    assert repr(tokenizer) == f"SentencePieceTokenizer({tokenizer.vocab_size} tokens, 3 of them special)"
    assert (tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.add_bos_token) == (1, 0, True)


def test_characters_outside_the_vocabulary_become_bytes(document: Document) -> None:
    tokenizer = SentencePieceTokenizer.from_document(document)
    ids = tokenizer.encode("😀")
    assert [tokenizer.decode_bytes([id]) for id in ids] == [b" ", b"\xf0", b"\x9f", b"\x98", b"\x80"]
    assert [tokenizer.token_repr(id) for id in ids] == [" ", "<f0>", "<9f>", "<98>", "<80>"]
    assert tokenizer.decode(ids) == "😀"


def test_a_space_is_added_and_removed(document: Document) -> None:
    tokenizer = SentencePieceTokenizer.from_document(document)
    assert tokenizer.decode_bytes(tokenizer.encode("a b")) == b" a b"
    for text in ("a b", " a", "  ", "", "\n a", "▁"):
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")
    stream = tokenizer.stream_decoder()
    assert stream.push(tokenizer.encode("a b")) == " a b"


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("always", [b" a", b" a", b" <s>", b" <s> a", b"", b"<s> a", b"  a"]),
        ("first", [b" a", b" a", b" <s>", b" <s> a", b"", b"<s>a", b"  a"]),
        ("never", [b"a", b" a", b" <s>", b" <s> a", b"", b"<s>a", b"  a"]),
        (None, [b" a", b"  a", b"  <s>", b"  <s>  a", b"", b"<s> a", b"   a"]),
    ],
)
def test_conditions_under_which_a_space_is_added(document: Document, scheme: str | None, expected: list[bytes]) -> None:
    """None is the older form with a normalizer, which adds a space to every part between special tokens."""
    if scheme is not None:
        document["normalizer"] = None
        document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    tokenizer = SentencePieceTokenizer.from_document(document)
    texts = ["a", " a", " <s>", " <s> a", "", "<s>a", "  a"]
    assert [tokenizer.decode_bytes(tokenizer.encode(text, allowed_special="all")) for text in texts] == expected
    assert tokenizer.to_document() == document | {"model": tokenizer.to_document()["model"]}
    again = SentencePieceTokenizer.from_document(tokenizer.to_document())
    assert again.sha256() == tokenizer.sha256()


@pytest.mark.parametrize("scheme", ["always", "first", "never", None])
def test_parts_get_the_ids_of_the_whole_text(document: Document, scheme: str | None) -> None:
    """Each part encoded as a text of its own would begin with a space under the scheme "first"."""
    if scheme is not None:
        document["normalizer"] = None
        document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    tokenizer = SentencePieceTokenizer.from_document(document)
    names = {1: "<s>", 2: "</s>"}
    several: list[list[str | int]] = [[1, "the cat", 2, " sat"], ["the", 1, "cat"], [" the", 2], [], [1, 2]]
    for parts in several:
        text = "".join(names[part] if isinstance(part, int) else part for part in parts)
        assert tokenizer.encode_parts(parts) == tokenizer.encode(text, allowed_special="all")
    assert tokenizer.encode_parts(["the <s>"]) == tokenizer.encode_ordinary("the <s>")


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_short_and_long_texts_get_the_same_ids(
    document: Document, short: int, random_text: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = SentencePieceTokenizer.from_document(document)
    rng = random.Random(20)
    texts = [random_text(rng, 12) + rng.choice(["", "<s>", " ", "▁"]) for _ in range(300)]
    expected = [tokenizer.encode(text, allowed_special="all") for text in texts]
    monkeypatch.setattr(module, "_SHORT", short)
    assert [tokenizer.encode(text, allowed_special="all") for text in texts] == expected
    assert tokenizer.encode_batch(texts, allowed_special="all") == expected


def test_text_is_split_only_where_no_merge_crosses(document: Document) -> None:
    tokenizer = SentencePieceTokenizer.from_document(document)
    assert tokenizer._model.splits_before_space
    vocabulary = section(document, "model", "vocab")
    vocabulary["e▁"] = len(vocabulary)
    merges = section(document, "model")["merges"]
    assert isinstance(merges, list)
    merges.insert(0, "e ▁")
    crossing = SentencePieceTokenizer.from_document(document)
    assert not crossing._model.splits_before_space
    assert crossing.encode("e a")[-2:] == [vocabulary["e▁"], vocabulary["a"]]


@given(st.text(alphabet="ab  ▁ei\n=é中"))
def test_merges_equal_the_naive_rule_of_scores(text: str) -> None:
    tokenizer = from_gguf(FROZEN["mistral"]["metadata"])
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.encode(text) == naive(tokenizer, text)


def test_runs_of_spaces_equal_the_naive_rule_of_scores(metadata: Document) -> None:
    """Tokens of spaces have equal scores, so that the order of their merges decides."""
    tokenizer = SentencePieceTokenizer.from_gguf(metadata)
    for count in range(80):
        for text in (" " * count, "a" + " " * count + "b", "▁" * count + "the"):
            assert tokenizer.encode(text) == naive(tokenizer, text)


def test_metadata_is_written_again(metadata: Document) -> None:
    tokenizer = from_gguf(metadata)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    written = tokenizer.to_gguf()
    assert {key: value for key, value in written.items() if key in metadata} == metadata
    assert written.keys() - metadata.keys() == {K + "add_space_prefix", K + "add_bos_token", K + "add_eos_token"}
    loaded = SentencePieceTokenizer.from_document(tokenizer.to_document(), tokenizer.tokenizer_config())
    assert loaded.encode("the  cat") == tokenizer.encode("the  cat")
    assert loaded.sha256() == tokenizer.sha256()
    with pytest.raises(TokenizerError, match="scores of this vocabulary are not known"):
        loaded.to_gguf()


def test_a_file_is_loaded_by_its_kind(document: Document, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(FROZEN["llama2"]["config"]), encoding="utf-8")
    tokenizer = load(tmp_path)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.add_bos_token) == (1, 2, True)
    assert SentencePieceTokenizer.load(tmp_path).sha256() == tokenizer.sha256()
    with pytest.raises(TokenizerError):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        ([], "normalizer", {"type": "NFC"}, "normalizer is not supported"),
        ([], "pre_tokenizer", {"type": "ByteLevel"}, "normalizer is not supported"),
        ([], "decoder", {"type": "ByteLevel"}, "decoder"),
        (["decoder"], "decoders", [], "decoder is not supported"),
        (["model"], "byte_fallback", False, "byte_fallback|normalizer"),
        (["model"], "ignore_merges", True, "ignore_merges"),
        (["model"], "unk_token", 7, "unk_token"),
        (["model"], "unk_token", "<missing>", "unk_token"),
        (["model", "vocab"], "<0x0A>", 100_000, "no token with id"),
        (["model"], "merges", ["a b c"], "two tokens"),
        (["model"], "merges", ["q q"], "merges use the token"),
        (["added_tokens", 0], "normalized", True, "normalized"),
        (["added_tokens", 0], "id", 5, "two ids|belongs to two"),
    ],
)
def test_unsupported_parts_are_refused_by_name(
    document: Document, path: list[str | int], key: str, value: object, message: str
) -> None:
    section(document, *path)[key] = value
    with pytest.raises(TokenizerError, match=message) as caught:
        SentencePieceTokenizer.from_document(document)
    assert "\n" not in str(caught.value)


def test_a_metaspace_that_splits_is_refused(document: Document) -> None:
    document["normalizer"] = None
    for wrong in ({"split": True}, {"prepend_scheme": "last"}, {"replacement": "_"}):
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        document["pre_tokenizer"] = metaspace | wrong
        with pytest.raises(TokenizerError, match=next(iter(wrong))):
            SentencePieceTokenizer.from_document(document)


def test_a_missing_byte_token_is_refused(document: Document) -> None:
    vocabulary = section(document, "model", "vocab")
    vocabulary["<0x0a>"] = vocabulary.pop("<0x0A>")
    with pytest.raises(TokenizerError, match="lacks the byte token <0x0A>"):
        SentencePieceTokenizer.from_document(document)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scores", None, "scores .* must be an array"),
        ("scores", [0.0], "scores has 1 values"),
        ("token_type", None, "token_type"),
        ("remove_extra_whitespaces", True, "remove_extra_whitespaces"),
        ("bos_token_id", 10**6, "has no token"),
    ],
)
def test_damaged_metadata_is_refused(metadata: Document, key: str, value: object, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_gguf(metadata | {K + key: value})


def test_scores_that_do_not_order_the_merges_are_refused(metadata: Document) -> None:
    tokens, scores = metadata[K + "tokens"], metadata[K + "scores"]
    assert isinstance(tokens, list)
    assert isinstance(scores, list)
    equal = list(scores)
    equal[tokens.index("in")] = equal[tokens.index("er")]
    with pytest.raises(TokenizerError, match="are equal: they must differ"):
        from_gguf(metadata | {K + "scores": equal})
    for wrong in (float("nan"), "1", True):
        with pytest.raises(TokenizerError, match=r"scores\.7"):
            from_gguf(metadata | {K + "scores": [*scores[:7], wrong, *scores[8:]]})
    with pytest.raises(TokenizerError, match="every character"):
        from_gguf(metadata | {K + "tokens": [*tokens[:-1], "snow☃"]})


def test_1_000_mutated_files_load_or_raise_tokenizer_error(document: Document) -> None:
    rng = random.Random(21)
    text = json.dumps(document)
    refused = 0
    for _ in range(1000):
        place = rng.randrange(len(text))
        changed = text[:place] + rng.choice(["", "x", "0", "null", '"', "[]"]) + text[place + rng.randint(0, 3) :]
        try:
            tokenizer = SentencePieceTokenizer.from_document(json.loads(changed))
            tokenizer.decode(tokenizer.encode("the cat 😀"))
        except (TokenizerError, json.JSONDecodeError):
            refused += 1
    assert 500 < refused < 1000
