"""Tests of the public names and of the import cost of the package."""

import subprocess
import sys

import axone.tokenizer


def test_all_lists_the_public_names() -> None:
    assert axone.tokenizer.__all__ == [
        "BPETokenizer",
        "CharTokenizer",
        "SentencePieceTokenizer",
        "StreamDecoder",
        "SubwordTokenizer",
        "Tokenizer",
        "TokenizerError",
        "from_gguf",
        "load",
    ]
    for name in axone.tokenizer.__all__:
        assert getattr(axone.tokenizer, name).__doc__


def test_import_and_training_load_nothing_heavy() -> None:
    code = (
        "import sys, axone.tokenizer; t = axone.tokenizer.BPETokenizer.train('aé 😀', 260); t.encode('aé 😀' * 9999); "
        "print({'regex', 'numpy.ma', 'multiprocessing', 'asyncio', 'unittest'} & set(sys.modules))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    assert finished.stdout.strip() == "set()"
