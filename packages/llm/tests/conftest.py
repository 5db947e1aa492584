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
def default_sigint_handler() -> None:
    """Handle SIGINT also in a background job of a script, for which the shell ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync, which would wait for the disk: tests record its calls, and none cuts the power."""
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
