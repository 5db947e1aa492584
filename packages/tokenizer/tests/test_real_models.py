"""Tests against parts of real tokenizers, with the ids of Hugging Face and sentencepiece.

`frozen/make_real.py` writes the expectations.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from axone.tokenizer import BPETokenizer, SentencePieceTokenizer, from_gguf, load
from axone.tokenizer.bpe import patterns

PATH = Path(__file__).parent / "frozen" / "real.json"


@pytest.fixture(scope="module")
def frozen() -> Any:
    return json.loads(PATH.read_text(encoding="utf-8"))


def test_the_frozen_file_is_small() -> None:
    assert PATH.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["llama3_1", "qwen3", "llama2", "gpt2"])
def test_ids_of_a_folder_equal_those_of_hugging_face(name: str, frozen: Any, tmp_path: Path) -> None:
    model = frozen[name]
    (tmp_path / "tokenizer.json").write_text(json.dumps(model["document"]), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(model["config"]), encoding="utf-8")
    tokenizer = load(tmp_path)
    assert isinstance(tokenizer, BPETokenizer | SentencePieceTokenizer)
    assert [tokenizer.encode(text, allowed_special="all") for text in model["texts"]] == model["ids"]
    assert tokenizer.encode_batch(model["texts"], allowed_special="all") == model["ids"]
    tokenizer.save(tmp_path)
    again = load(tmp_path)
    assert [again.sha256(), again.bos_token_id, again.eos_token_id, again.add_bos_token] == [
        tokenizer.sha256(),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.add_bos_token,
    ]


@pytest.mark.parametrize("name", ["smollm2", "mistral"])
def test_ids_of_gguf_metadata_equal_those_of_the_peer(name: str, frozen: Any) -> None:
    tokenizer = from_gguf(frozen[name]["metadata"])
    assert isinstance(tokenizer, BPETokenizer | SentencePieceTokenizer)
    texts = frozen[name]["texts"]
    assert [tokenizer.encode(text, allowed_special="all") for text in texts] == frozen[name]["ids"]
    again = from_gguf(tokenizer.to_gguf())
    assert again.sha256() == tokenizer.sha256()


def special(name: str, frozen: Any) -> dict[str, object]:
    model = frozen[name]
    tokenizer = BPETokenizer.from_document(model["document"], model.get("config"))
    names = {id: token for token, id in (tokenizer.special_tokens | tokenizer.added_tokens).items()}
    roles = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    found: dict[str, object] = {role: names[id] for role, id in roles.items() if id is not None}
    return found | {"add_bos": tokenizer.add_bos_token, "pattern": tokenizer.pattern}


def test_special_tokens_of_real_files(frozen: Any) -> None:
    end = "<|endoftext|>"
    assert special("llama3_1", frozen) == {
        "bos": "<|begin_of_text|>",
        "eos": "<|eot_id|>",
        "add_bos": True,
        "pattern": patterns.LLAMA3,
    }
    assert special("qwen3", frozen) == {"eos": "<|im_end|>", "pad": end, "add_bos": False, "pattern": patterns.QWEN2}
    assert special("gpt2", frozen) == {"bos": end, "eos": end, "unk": end, "add_bos": False, "pattern": patterns.GPT2}
    assert special("smollm2", frozen) == {"add_bos": False, "pattern": patterns.SMOLLM}


def test_added_tokens_that_are_not_special_are_always_found(frozen: Any) -> None:
    """Qwen3's <tool_call> and <think> are such tokens: a user can type them."""
    tokenizer = BPETokenizer.from_document(frozen["qwen3"]["document"])
    assert "<tool_call>" in tokenizer.added_tokens
    assert tokenizer.encode_ordinary("a<tool_call>")[1] == tokenizer.added_tokens["<tool_call>"]


def test_both_spellings_of_merges_are_read(frozen: Any) -> None:
    document = copy.deepcopy(frozen["qwen3"]["document"])
    assert isinstance(document["model"]["merges"][0], list)
    tokenizer = BPETokenizer.from_document(document)
    document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]
    assert BPETokenizer.from_document(document).sha256() == tokenizer.sha256()


def test_smollm2_from_its_gguf_equals_its_original_file(frozen: Any) -> None:
    original = BPETokenizer.from_document(frozen["smollm2"]["document"])
    tokenizer = from_gguf(frozen["smollm2"]["metadata"])
    assert tokenizer.sha256() == original.sha256()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.add_bos_token) == (1, 2, False)
