"""Tests of special tokens with a role: read from files, kept as attributes, and written for transformers."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, TokenizerError, load

SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>"]
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|begin|>",
    "eos_token": {"content": "<|end|>", "lstrip": False, "special": True},
    "pad_token": "<|pad|>",
    "unk_token": None,
    "chat_template": "{{ messages }}",
}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [300], "tokens": ["<|begin|>"]}},
}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


@pytest.fixture(scope="module")
def document(corpus: str) -> dict[str, object]:
    return BPETokenizer.train(corpus, 303, special_tokens=SPECIAL).to_document()


def test_sha256_is_that_of_the_saved_file(corpus: str, tmp_path: Path) -> None:
    """Token files hold this sum as the identity of their tokenizer."""
    tokenizers: list[Tokenizer] = [
        CharTokenizer.train("héllo 文"),
        CharTokenizer.train("abc", unknown="<unk>"),
        BPETokenizer.train(corpus, 300, special_tokens=SPECIAL),
        BPETokenizer.train(corpus, 300, pattern=r"\p{L}+"),
    ]
    for tokenizer in tokenizers:
        tokenizer.save(tmp_path)
        content = (tmp_path / "tokenizer.json").read_bytes()
        assert tokenizer.sha256() == hashlib.sha256(content).hexdigest() == load(tmp_path).sha256()
    assert len({tokenizer.sha256() for tokenizer in tokenizers}) == 4


def test_a_tokenizer_without_roles_has_none(corpus: str) -> None:
    tokenizers: list[Tokenizer] = [CharTokenizer.train("abc", unknown="<unk>"), BPETokenizer.train(corpus, 300)]
    for tokenizer in tokenizers:
        assert tokenizer.bos_token_id is tokenizer.eos_token_id is None
        assert not tokenizer.add_bos_token
        assert tokenizer.tokenizer_config() == {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        }


def test_a_folder_names_its_special_tokens_in_tokenizer_config(document: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    for tokenizer in (load(tmp_path), BPETokenizer.load(tmp_path)):
        assert isinstance(tokenizer, BPETokenizer)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (300, 301)
        assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (302, None)
        assert not tokenizer.add_bos_token
        assert tokenizer.tokenizer_config() == {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "pad_token": "<|pad|>",
            "add_bos_token": False,
            "add_eos_token": False,
        }
        again = BPETokenizer.from_document(tokenizer.to_document(), tokenizer.tokenizer_config())
        assert again.tokenizer_config() == tokenizer.tokenizer_config()
    assert load(tmp_path / "tokenizer.json").bos_token_id is None


@pytest.mark.parametrize("post_processor", [TEMPLATE, {"type": "Sequence", "processors": [BYTE_LEVEL, TEMPLATE]}])
def test_a_template_defines_the_token_before_a_text(document: dict[str, object], post_processor: object) -> None:
    tokenizer = BPETokenizer.from_document(document | {"post_processor": post_processor})
    assert (tokenizer.bos_token_id, tokenizer.add_bos_token) == (300, True)
    assert (tokenizer.eos_token_id, tokenizer.add_eos_token) == (None, False)
    named = BPETokenizer.from_document(document | {"post_processor": post_processor}, CONFIG)
    assert (named.eos_token_id, named.add_bos_token) == (301, True)


def test_flags_of_the_config_replace_the_template(document: dict[str, object]) -> None:
    config = CONFIG | {"add_bos_token": False, "add_eos_token": True}
    tokenizer = BPETokenizer.from_document(document | {"post_processor": TEMPLATE}, config)
    assert not tokenizer.add_bos_token
    assert tokenizer.add_eos_token
    assert BPETokenizer.from_document(document, CONFIG | {"add_bos_token": True}).add_bos_token
    without = CONFIG | {"bos_token": None, "add_bos_token": True}
    assert not BPETokenizer.from_document(document, without).add_bos_token


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token": "<|missing|>"}, r'eos_token \("<\|missing\|>"\) is not in the vocabulary'),
        ({"bos_token": 7}, r"bos_token \(7\) must be a token or null"),
        ([], "must be a JSON object"),
        ({"bos_token": "<|end|>"}, "differ"),
    ],
)
def test_invalid_configs_are_refused(document: dict[str, object], config: object, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        BPETokenizer.from_document(document | {"post_processor": TEMPLATE}, config)


def test_a_template_with_several_tokens_on_one_side_is_refused(document: dict[str, object]) -> None:
    template = copy.deepcopy(TEMPLATE)
    assert isinstance(template["single"], list)
    template["single"].insert(0, template["single"][0])
    with pytest.raises(TokenizerError, match="at most one special token on each side"):
        BPETokenizer.from_document(document | {"post_processor": template})


def test_a_pad_token_that_is_not_in_the_vocabulary_is_ignored(document: dict[str, object]) -> None:
    """transformers would add it; no text is encoded with it."""
    assert BPETokenizer.from_document(document, {"pad_token": "[PAD]"}).pad_token_id is None


def test_an_unknown_token_is_kept_if_no_text_is_unknown(document: dict[str, object]) -> None:
    changed = copy.deepcopy(document)
    assert isinstance(changed["model"], dict)
    changed["model"] |= {"unk_token": "<|end|>", "fuse_unk": True}
    assert BPETokenizer.from_document(changed).unk_token_id == 301
    changed["model"]["unk_token"] = "<|missing|>"  # noqa: S105 - a token
    with pytest.raises(TokenizerError, match="unk_token"):
        BPETokenizer.from_document(changed)


def test_normalized_tokens_are_searched_after_the_others() -> None:
    """Hugging Face searches tokens with that flag only in the text that the others leave."""
    document = BPETokenizer.train("abc", 258, special_tokens=["ab", "bc"]).to_document()
    added = document["added_tokens"]
    assert isinstance(added, list)
    for token in added:
        token["special"] = False
    assert BPETokenizer.from_document(document).encode("abc") == [256, 99]
    added[0]["normalized"] = True
    tokenizer = BPETokenizer.from_document(document)
    assert tokenizer.encode("abc") == [97, 257]
    assert tokenizer.to_document() == document
    added[1]["normalized"] = True
    assert BPETokenizer.from_document(document).encode("abc") == [256, 99]


@pytest.mark.parametrize(
    ("id", "shown"),
    [(ord("a"), "a"), (ord(" "), " "), (10, "⏎"), (9, "→"), (0x1B, "<U+001B>"), (0xE6, "<e6>"), (300, "<|begin|>")],
)
def test_token_repr_is_printable(document: dict[str, object], id: int, shown: str) -> None:
    assert BPETokenizer.from_document(document).token_repr(id) == shown


def test_token_repr_escapes_what_a_terminal_lacks() -> None:
    tokenizer = CharTokenizer.train("a文\n\u200d\t")
    assert [tokenizer.token_repr(id) for id in range(5)] == ["→", "⏎", "a", "<U+200D>", "文"]
    assert [tokenizer.token_repr(id, encoding="ascii") for id in (1, 2, 4)] == ["<U+000A>", "a", "<U+6587>"]
    with pytest.raises(TokenizerError, match="id 9 is not in the vocabulary"):
        tokenizer.token_repr(9)
