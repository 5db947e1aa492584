"""Tests against frozen ids of Hugging Face tokenizers and tiktoken for 2,000 texts, written by `frozen/make.py`."""

import base64
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.tokenizer import BPETokenizer

HERE = Path(__file__).parent / "frozen"
FILES = ["axone_gpt2", "axone_gpt4", "hf_gpt2", "hf_llama3", "hf_qwen2", "hf_smollm", "rust_gpt2", "rust_gpt4"]


@pytest.fixture(scope="module")
def samples() -> dict[str, NDArray[np.generic]]:
    with np.load(HERE / "samples.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def texts(samples: dict[str, NDArray[np.generic]]) -> list[str]:
    text = samples["texts"].tobytes().decode()
    stops = samples["lengths"].astype(np.int64).cumsum().tolist()
    return [text[start:stop] for start, stop in pairwise([0, *stops])]


def open_file(name: str) -> BPETokenizer:
    path = HERE / f"{name}.json"
    if not name.startswith("rust"):
        return BPETokenizer.load(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    ranks = {base64.b64decode(token): rank for token, rank in content["ranks"].items()}
    return BPETokenizer.from_tiktoken(ranks, content["pattern"])


@pytest.mark.parametrize("name", FILES)
def test_ids_equal_those_of_the_peers(name: str, samples: dict[str, NDArray[np.generic]], texts: list[str]) -> None:
    tokenizer = open_file(name)
    stops = samples[f"{name}_counts"].astype(np.int64).cumsum().tolist()
    expected = [samples[name][start:stop].tolist() for start, stop in pairwise([0, *stops])]
    assert len(texts) == len(expected) == 2000
    assert tokenizer.encode_batch(texts) == expected
    if name != "hf_qwen2":  # applies NFC
        assert [tokenizer.decode(ids) for ids in expected] == texts


@pytest.mark.parametrize("name", FILES)
def test_single_texts_get_the_ids_of_a_batch(name: str, texts: list[str]) -> None:
    tokenizer = open_file(name)
    assert [tokenizer.encode(text) for text in texts] == tokenizer.encode_batch(texts)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_training_writes_the_file_that_the_peers_opened(
    pattern: str, samples: dict[str, NDArray[np.generic]], tmp_path: Path
) -> None:
    corpus = samples["corpus"].tobytes().decode()
    BPETokenizer.train(corpus, 600, pattern=pattern, special_tokens=["<|endoftext|>", "<|end|>"]).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (HERE / f"axone_{pattern}.json").read_bytes()


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_training_gives_the_merges_of_rustbpe(pattern: str) -> None:
    """rustbpe breaks ties by the smallest pair, too."""
    ours, theirs = open_file(f"axone_{pattern}"), open_file(f"rust_{pattern}")
    assert theirs.merges[: len(ours.merges)] == ours.merges
