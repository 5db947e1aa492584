"""A text, its tokenizer and a tiny model: what most tests start from."""

import os
import signal

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset
from axone.tokenizer import CharTokenizer

collect_ignore = ["frozen"]  # the scripts there import peers

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\n" * 30


@pytest.fixture(autouse=True, scope="session")
def heeded_interrupts() -> None:
    """Heed SIGINT also where the tests run in the background of a script, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def impatient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait for the disk: what is synced when is looked at, and no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def dataset() -> TokenDataset:
    return TokenDataset.from_text(TEXT, CharTokenizer.train(TEXT))


@pytest.fixture
def config(dataset: TokenDataset) -> LanguageModelConfig:
    return LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size, context_length=16, num_layers=2, num_heads=2, embed_dim=16
    )


@pytest.fixture
def model(config: LanguageModelConfig) -> LanguageModel:
    return LanguageModel(config, rng=np.random.default_rng(0))
