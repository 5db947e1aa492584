"""Tests of the tokenizer metadata of GGUF files."""

import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from axone.tokenizer import BPETokenizer, CharTokenizer, TokenizerError, from_gguf
from axone.tokenizer.bpe import patterns

Metadata = dict[str, object]
Random = Callable[[random.Random, int], str]
TEXT = "The dog's 1234567 dogs,  文字 <tool> \n\n 😀"
K = "tokenizer.ggml."


@pytest.fixture(scope="module")
def metadata(corpus: str) -> Metadata:
    """Metadata in the form of SmolLM2, with a control token, a user-defined one and an unused one."""
    document = BPETokenizer.train(
        corpus, 330, pattern=patterns.SMOLLM, special_tokens=["<|im_end|>", "<tool>"]
    ).to_document()
    added = document["added_tokens"]
    assert isinstance(added, list)
    added[1]["special"] = False
    found = BPETokenizer.from_document(document, {"eos_token": "<|im_end|>"}).to_gguf()
    tokens, types = found[K + "tokens"], found[K + "token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    tokens.append("[PAD330]")
    types.append(5)
    return found


def test_metadata_has_the_keys_of_a_gguf_file(metadata: Metadata) -> None:
    assert metadata[K + "model"] == "gpt2"
    assert metadata[K + "pre"] == "smollm"
    assert metadata[K + "eos_token_id"] == 328
    assert metadata[K + "add_bos_token"] is False
    assert K + "bos_token_id" not in metadata
    tokens, types, merges = metadata[K + "tokens"], metadata[K + "token_type"], metadata[K + "merges"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert isinstance(merges, list)
    assert types == [1] * 328 + [3, 4, 5]
    assert tokens[328:] == ["<|im_end|>", "<tool>", "[PAD330]"]
    assert all(len(merge.split(" ")) == 2 for merge in merges)
    json.dumps(metadata)


def test_token_types_are_read(metadata: Metadata) -> None:
    tokenizer = from_gguf(metadata)
    assert isinstance(tokenizer, BPETokenizer)
    assert tokenizer.special_tokens == {"<|im_end|>": 328}
    assert tokenizer.added_tokens == {"<tool>": 329}
    assert tokenizer.vocab_size == 330
    assert 329 in tokenizer.encode(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode_ordinary("[PAD330]") == tokenizer.encode("[PAD330]")
    with pytest.raises(TokenizerError, match="spells the special token"):
        tokenizer.encode("<|im_end|>")


def test_arrays_of_numpy_are_read(metadata: Metadata) -> None:
    arrays = metadata | {
        K + "token_type": np.array(metadata[K + "token_type"], dtype=np.int32),
        K + "eos_token_id": np.uint32(328),
        K + "add_bos_token": np.bool_(False),
    }
    assert from_gguf(arrays).sha256() == from_gguf(metadata).sha256()


@pytest.mark.parametrize(
    ("name", "pattern", "normalization", "ignore_merges", "add_bos"),
    [
        ("gpt-2", patterns.GPT2, None, False, False),
        ("olmo", patterns.GPT2, None, False, False),
        ("mpt", patterns.GPT2, None, False, False),
        ("smollm", patterns.SMOLLM, None, False, False),
        ("starcoder", patterns.SMOLLM, None, False, False),
        ("refact", patterns.SMOLLM, None, False, False),
        ("command-r", patterns.SMOLLM, "NFC", False, False),
        ("qwen2", patterns.QWEN2, "NFC", False, False),
        ("llama-bpe", patterns.LLAMA3, None, True, True),
        ("llama3", patterns.LLAMA3, None, True, True),
        ("llama-v3", patterns.LLAMA3, None, True, True),
    ],
)
def test_names_of_pre_tokenizers(
    metadata: Metadata, name: str, pattern: str, normalization: str | None, ignore_merges: bool, add_bos: bool
) -> None:
    changed = metadata | {K + "pre": name, K + "bos_token_id": 328}
    del changed[K + "add_bos_token"]
    tokenizer = BPETokenizer.from_gguf(changed)
    assert tokenizer.pattern == pattern
    assert tokenizer._model.normalization == normalization
    assert tokenizer._model.ignore_merges == ignore_merges
    assert tokenizer.add_bos_token == add_bos
    assert not BPETokenizer.from_gguf(changed | {K + "add_bos_token": False}).add_bos_token
    again = BPETokenizer.from_gguf(tokenizer.to_gguf())
    assert again.sha256() == tokenizer.sha256()
    assert BPETokenizer.from_document(tokenizer.to_document()).add_bos_token == add_bos


@pytest.mark.parametrize("name", ["default", "deepseek-llm", "tekken", "gpt-4o", "", 7, None])
def test_unknown_pre_tokenizers_are_refused_by_name(metadata: Metadata, name: object) -> None:
    """A guess would give wrong ids silently."""
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.pre \({json.dumps(name)}\)"):
        from_gguf(metadata | {K + "pre": name})


def test_expected_tokens_around_a_text_are_saved(metadata: Metadata) -> None:
    changed = metadata | {K + "bos_token_id": 328, K + "add_bos_token": True, K + "add_eos_token": True}
    document = BPETokenizer.from_gguf(changed).to_document()
    assert isinstance(document["post_processor"], dict)
    special = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    assert document["post_processor"]["single"] == [special, {"Sequence": {"id": "A", "type_id": 0}}, special]
    loaded = BPETokenizer.from_document(document)
    assert (loaded.bos_token_id, loaded.eos_token_id) == (328, 328)
    assert loaded.add_bos_token
    assert loaded.add_eos_token


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "bert", r'model \("bert"\) is not supported'),
        ("model", None, "model .* must be a string"),
        ("tokens", None, "tokens .* must be an array"),
        ("tokens", ["a", "a"], "token_type has 331 values for 2 tokens"),
        ("token_type", "1", "token_type .* must be an array"),
        ("token_type", [1.5] * 331, "must be an integer"),
        ("token_type", [6] * 331, r"token_type\.0 \(byte\) is not supported"),
        ("token_type", [5] * 331, r"merges\.0 uses the token"),
        ("merges", ["a b c"], r"merges\.0 .* must be two tokens"),
        ("merges", ["ab zz"], r"merges\.0 uses the token"),
        ("merges", ["a z"], "merges use the token 'az'"),
        ("eos_token_id", 330, "eos_token_id .* has no token"),
        ("eos_token_id", "328", "must be an integer"),
        ("add_bos_token", 1, "add_bos_token .* must be true or false"),
        ("add_space_prefix", True, "add_space_prefix"),
    ],
)
def test_damaged_metadata_is_refused(metadata: Metadata, key: str, value: object, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        from_gguf(metadata | {K + key: value})
    assert "\n" not in str(caught.value)


def test_repeated_and_empty_tokens_are_refused(metadata: Metadata) -> None:
    tokens = metadata[K + "tokens"]
    assert isinstance(tokens, list)
    for wrong in ("", "!", 7):
        with pytest.raises(TokenizerError, match="distinct, non-empty strings"):
            from_gguf(metadata | {K + "tokens": [*tokens[:-1], wrong]})
    with pytest.raises(TokenizerError, match="256 characters that represent bytes"):
        from_gguf(metadata | {K + "tokens": ["文", *tokens[1:]]})


def test_a_gap_between_ids_is_written_as_an_unused_token(corpus: str) -> None:
    ranks = BPETokenizer.train(corpus, 300).to_tiktoken()
    tokenizer = BPETokenizer.from_tiktoken(ranks, "gpt2", {"<|end|>": 303})
    metadata = tokenizer.to_gguf()
    tokens, types = metadata[K + "tokens"], metadata[K + "token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert tokens[300:] == ["[PAD300]", "[PAD301]", "[PAD302]", "<|end|>"]
    assert types[299:] == [1, 5, 5, 5, 3]
    assert BPETokenizer.from_gguf(metadata).encode(corpus) == tokenizer.encode(corpus)


@pytest.mark.parametrize("pattern", ["gpt4", r"\p{L}+|\P{L}", None])
def test_patterns_without_a_name_are_not_written(pattern: str | None, corpus: str) -> None:
    with pytest.raises(TokenizerError, match="has no name in GGUF"):
        BPETokenizer.train(corpus, 300, pattern=pattern).to_gguf()


def test_2_000_mutations_load_or_raise_tokenizer_error(metadata: Metadata, random_text: Random) -> None:
    rng = random.Random(15)
    refused = 0
    for _ in range(2000):
        changed = dict(metadata)
        key = rng.choice([*metadata])
        value = changed[key]
        junk: object = rng.choice([None, True, -1, 2**40, 1.5, "", "a", "\ud800", [], {}, ["a", "b"], np.arange(3), 3])
        if isinstance(value, list) and rng.random() < 0.8:
            value = list(value)
            value[rng.randrange(len(value))] = junk
            changed[key] = value
        else:
            changed[key] = junk
        try:
            tokenizer = from_gguf(changed)
            tokenizer.decode(tokenizer.encode(random_text(rng, 3)))
        except TokenizerError:
            refused += 1
    assert 800 < refused < 2000


def test_a_character_tokenizer_is_not_a_gguf_vocabulary() -> None:
    assert not hasattr(CharTokenizer.train("abc"), "to_gguf")
