"""Tests of BPETokenizer: round trips, special tokens, streams, arrays, batches, invalid arguments."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.tokenizer import BPETokenizer, Tokenizer, TokenizerError
from axone.tokenizer.bpe import encoder as module
from axone.tokenizer.bpe.model import BPEModel

Random = Callable[[random.Random, int], str]
SPECIAL = ["<|end|>", "<|end", "|>"]


def test_is_a_tokenizer(tokenizer: BPETokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)
    assert repr(tokenizer) == "BPETokenizer(600 tokens, 3 of them special)"


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_round_trip_of_20_000_texts(
    short: int, tokenizer: BPETokenizer, random_text: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORT", short)
    rng = random.Random(7)
    texts = [random_text(rng, 12) for _ in range(2_500 if short else 500)]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text
    if not short:
        texts = [text for text in texts * 4 if not any(special in text for special in SPECIAL)]
        assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts


@given(st.binary())
def test_bytes_come_back_from_ids(data: bytes) -> None:
    tokenizer = BPETokenizer.train("", 256)
    assert tokenizer.decode_bytes(data) == data
    assert tokenizer.decode(data) == data.decode("utf-8", errors="replace")


def test_short_and_long_texts_get_the_same_ids(
    tokenizer: BPETokenizer, random_text: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(8)
    special = random.Random(9)
    for _ in range(200):
        text = "".join(random_text(rng, 10) + special.choice(["", *SPECIAL]) for _ in range(3))
        monkeypatch.setattr(module, "_SHORT", 1 << 60)
        short = tokenizer.encode(text, allowed_special="all")
        ordinary = tokenizer.encode_ordinary(text)
        monkeypatch.setattr(module, "_SHORT", 0)
        assert tokenizer.encode(text, allowed_special="all") == short
        assert tokenizer.encode_ordinary(text) == ordinary


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_a_batch_is_its_texts_one_by_one(
    short: int, tokenizer: BPETokenizer, random_text: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(10)
    texts = ["", *(random_text(rng, 9) for _ in range(200)), "<|end|>", "", "a<|end|>|>", ""]
    expected = [tokenizer.encode(text, allowed_special="all") for text in texts]
    monkeypatch.setattr(module, "_SHORT", short)
    assert tokenizer.encode_batch(iter(texts), allowed_special="all") == expected
    assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_arrays_are_int32_and_writable(size: int, tokenizer: BPETokenizer) -> None:
    text = ("the dog 文 " * size)[:size]
    array = tokenizer.encode_to_array(text)
    assert array.dtype == np.int32
    assert array.flags.writeable
    assert array.tolist() == tokenizer.encode(text)
    assert tokenizer.decode(array) == text


@pytest.mark.parametrize("size", [1, 100_000])
def test_lone_surrogates_are_refused(size: int, tokenizer: BPETokenizer) -> None:
    text = "é" * size + "\ud800"
    for encode in (tokenizer.encode, tokenizer.encode_ordinary, tokenizer.encode_to_array):
        with pytest.raises(TokenizerError, match=rf"lone surrogate U\+D800 at position {size}"):
            encode(text)
    with pytest.raises(TokenizerError, match="lone surrogate"):
        tokenizer.encode_batch(["fine", text])


def test_non_text_is_refused(tokenizer: BPETokenizer) -> None:
    for encode in (tokenizer.encode, tokenizer.encode_ordinary, tokenizer.encode_to_array):
        with pytest.raises(TypeError, match="must be a str, not bytes"):
            encode(b"the dog")  # type: ignore[arg-type]  # a mistake on purpose
    with pytest.raises(TypeError, match="use encode for a single text"):
        tokenizer.encode_batch("the dog")


def test_a_byte_order_mark_within_a_text_is_kept(tokenizer: BPETokenizer) -> None:
    """A str is encoded as it is, as by Hugging Face and tiktoken; the reader of a file has to skip the mark."""
    assert tokenizer.decode_bytes(tokenizer.encode("\ufeffa")) == b"\xef\xbb\xbfa"


# R16: text that spells a special token never yields its id unless it is allowed.


@given(st.lists(st.sampled_from(["<|end|>", "<|end", "|>", "<", "|", "end", ">", "x"]), max_size=8), st.data())
def test_special_ids_come_only_from_what_is_allowed(parts: list[str], data: st.DataObject) -> None:
    tokenizer = BPETokenizer.train("<|end|> <| |> end >", 300, special_tokens=SPECIAL)
    ids = set(tokenizer.special_tokens.values())
    text = "".join(parts)
    allowed = data.draw(st.sets(st.sampled_from(SPECIAL)))
    ordinary = tokenizer.encode_ordinary(text)
    assert not ids.intersection(ordinary)
    assert tokenizer.decode(ordinary) == text
    if any(special in text for special in set(SPECIAL) - allowed):
        with pytest.raises(TokenizerError, match="spells the special token"):
            tokenizer.encode(text, allowed_special=allowed)
    else:
        encoded = tokenizer.encode(text, allowed_special=allowed)
        assert tokenizer.decode(encoded) == text
        assert ids.intersection(encoded) <= {tokenizer.special_tokens[special] for special in allowed}
    assert tokenizer.decode(tokenizer.encode(text, allowed_special="all")) == text


def test_the_longest_special_token_is_taken(tokenizer: BPETokenizer) -> None:
    special = tokenizer.special_tokens
    assert tokenizer.encode("<|end|>", allowed_special="all") == [special["<|end|>"]]
    assert tokenizer.encode("<|end", allowed_special={"<|end"}) == [special["<|end"]]
    assert tokenizer.encode("|><|end", allowed_special="all") == [special["|>"], special["<|end"]]


def test_a_forbidden_special_token_is_named_with_its_position(tokenizer: BPETokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"'<\|end\|>' at position 3:"):
        tokenizer.encode("abc<|end|>")
    with pytest.raises(ValueError, match="spells the special token"):
        tokenizer.encode_batch(["fine", "|>"])
    with pytest.raises(TokenizerError, match="must be a set"):
        tokenizer.encode("abc", allowed_special="<|end|>")
    assert tokenizer.encode("abc", allowed_special={"<|unheard-of|>"}) == tokenizer.encode("abc")


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_parts_with_ids_of_special_tokens_equal_the_whole_text(
    short: int, tokenizer: BPETokenizer, random_text: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORT", short)
    rng = random.Random(14)
    end = tokenizer.special_tokens["<|end|>"]
    for _ in range(200):
        texts = [random_text(rng, 6).replace("<|end", "").replace("|>", "") for _ in range(3)]
        parts: list[str | int] = [texts[0], end, texts[1], end, end, texts[2]]
        whole = "<|end|>".join([texts[0], texts[1], "", texts[2]])
        assert tokenizer.encode_parts(parts) == tokenizer.encode(whole, allowed_special="all")
    assert tokenizer.encode_parts(["a<|end|>"]) == tokenizer.encode_ordinary("a<|end|>")
    assert tokenizer.encode_parts([]) == []
    with pytest.raises(TokenizerError, match="id 600 is not in the vocabulary"):
        tokenizer.encode_parts(["a", 600])
    with pytest.raises(TokenizerError, match="lone surrogate"):
        tokenizer.encode_parts(["a", end, "\ud800"])


# R17: streams.


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_a_stream_equals_decode_and_never_splits_a_character(
    chunk: int, tokenizer: BPETokenizer, random_text: Random
) -> None:
    rng = random.Random(11)
    for _ in range(500):
        text = random_text(rng, 12).replace("\ufffd", "")
        ids = list(text.encode()) if rng.random() < 0.5 else tokenizer.encode_ordinary(text)
        if ids and rng.random() < 0.5:
            ids = [id for id in ids if id < 256] or ids
        decoder = tokenizer.stream_decoder()
        pieces = [decoder.push(ids[start : start + chunk]) for start in range(0, len(ids), chunk)]
        shown = "".join(pieces)
        assert shown + decoder.flush() == tokenizer.decode(ids)
        if tokenizer.decode(ids) == text:
            assert "\ufffd" not in shown


@given(st.binary())
def test_a_stream_of_any_bytes_equals_decode(data: bytes) -> None:
    tokenizer = BPETokenizer.train("", 256)
    decoder = tokenizer.stream_decoder()
    for _ in range(2):  # the second pass uses the flushed decoder
        assert "".join([*map(decoder.decode, data), decoder.flush()]) == tokenizer.decode(data)


def test_a_stream_buffers_a_character_until_it_is_complete() -> None:
    decoder = BPETokenizer.train("", 256).stream_decoder()
    assert [decoder.decode(byte) for byte in "a😀b".encode()] == ["a", "", "", "", "😀", "b"]
    assert decoder.push("é".encode()[:1]) == ""
    assert decoder.flush() == "\ufffd"


@pytest.mark.parametrize("id", [-1, 600, 10**12])
def test_unknown_ids_are_named(id: int, tokenizer: BPETokenizer) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes, tokenizer.stream_decoder().push):
        with pytest.raises(TokenizerError, match=f"id {id} is not in the vocabulary, which has ids 0 to 599"):
            decode([0, id])


def test_threads_may_share_a_tokenizer(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_SIZE", 10)  # the cache is always full
    tokenizer = BPETokenizer.train(corpus, 500)
    lines = corpus.splitlines() * 20
    expected = [tokenizer.encode(line) for line in lines]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, lines)) == expected
    assert len(tokenizer._encoder._cache) <= 10


def test_the_cache_is_bounded(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONG_PIECE", 3)
    tokenizer = BPETokenizer.train(corpus, 500)
    tokenizer.encode("the lengthy dog")
    assert set(tokenizer._encoder._cache) == {"the"}


# Models that come from files, not from training.


def bytes_and(*tokens: bytes) -> dict[bytes, int]:
    return {token: id for id, token in enumerate([*(bytes((byte,)) for byte in range(256)), *tokens])}


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_ignore_merges_takes_whole_pieces_first(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORT", short)
    vocabulary = bytes_and(b"ab", b" whole", "文字".encode())
    merges = [(97, 98)]
    plain = BPETokenizer(BPEModel(vocabulary, merges, None))
    whole = BPETokenizer(BPEModel(vocabulary, merges, r" ?\w+", ignore_merges=True))
    assert plain.encode(" whole") == list(b" whole")
    assert whole.encode("文字 whole 文字ab") == [258, 257, *" 文字".encode(), 256]
    assert whole.encode(" whole ab") == [257, 32, 256]


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_added_tokens_are_always_found_and_text_is_normalized(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORT", short)
    model = BPEModel(bytes_and(), [], "gpt2", {"<s>": 256}, {"<tool>": 257}, normalization="NFC")
    tokenizer = BPETokenizer(model)
    assert tokenizer.encode_ordinary("e\u0301<tool><s>") == [*"é".encode(), 257, *b"<s>"]
    assert tokenizer.encode("a<tool>b<s>", allowed_special="all") == [97, 257, 98, 256]


@pytest.mark.parametrize("short", [0, 1 << 60])
def test_a_byte_without_a_token_is_named(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORT", short)
    tokenizer = BPETokenizer(BPEModel({b"a": 0, b"b": 1}, [], "gpt2"))
    assert tokenizer.encode("abba") == [0, 1, 1, 0]
    with pytest.raises(TokenizerError, match="byte 0x63"):
        tokenizer.encode("abc")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"vocabulary": {b"a": -1}}, "must not be negative"),
        ({"vocabulary": {b"a": 0, b"b": 0}}, "id 0 belongs to two tokens"),
        ({"vocabulary": {b"a": 0, b"": 1}}, "empty"),
        ({"merges": [(97, 98)]}, "not in the vocabulary"),
        ({"merges": [(97, 300)]}, "300, which is not in the vocabulary"),
        ({"vocabulary": bytes_and(b"ab"), "merges": [(97, 98)] * 2}, "twice: each pair"),
        ({"special_tokens": {"<s>": 7}}, "id 7 belongs to two tokens"),
        ({"special_tokens": {"": 256}}, "empty token"),
        ({"special_tokens": {"<s>": 256}, "added_tokens": {"<s>": 257}}, "both special and added"),
    ],
)
def test_inconsistent_models_are_refused(model: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        BPEModel(**({"vocabulary": bytes_and(), "merges": [], "pattern": None} | model))  # type: ignore[arg-type]  # mistakes


def test_merges_and_tokens_can_be_read(tokenizer: BPETokenizer) -> None:
    tokens = [tokenizer.decode_bytes([id]) for id in range(tokenizer.vocab_size)]
    for (left, right), token in zip(tokenizer.merges, tokens[256:]):
        assert tokens[left] + tokens[right] == token
