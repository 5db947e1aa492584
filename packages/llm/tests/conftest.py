"""A text, its tokenizer and a tiny model: what most tests start from."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset
from axone.llm.generation import decoder
from axone.llm.runtime import resources
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


MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2 without biases": {"bias": False, "tie_embeddings": False, "num_heads": 3, "embed_dim": 12},
    "llama": {"norm": "rms", "mlp": "swiglu", "position": "rotary", "num_kv_heads": 2, "bias": False, "dropout": 0.5},
    "qwen2": {"norm": "rms", "mlp": "swiglu", "position": "rotary", "bias": False, "qkv_bias": True, "head_dim": 6},
    "rms and gelu": {"norm": "rms", "qk_norm": True},
    "one key head": {"mlp": "swiglu", "position": "rotary", "qk_norm": True, "num_kv_heads": 1},
    "squared relu": {"mlp": "relu2", "num_kv_heads": 2},
    "scaled embedding": {"embedding_scale": 4.0, "num_kv_heads": 2},
    "n-grams": {"norm": "rms", "position": "rotary", "max_ngram": 4, "ngram_rows": 400, "ngram_dropout": 0.5},
    "n-grams and layer norm": {"max_ngram": 3, "ngram_rows": 7000},
}
"""Changes of a small GPT-2 that together use every branch of inference."""


def build_model(kind: str = "gpt2", dtype: type[np.floating] = np.float32, **changes: Any) -> LanguageModel:
    """Return a model in evaluation mode whose every parameter matters, biases and gains too."""
    fields: dict[str, Any] = {
        "vocab_size": 19,
        "context_length": 12,
        "num_layers": 2,
        "num_heads": 4,
        "embed_dim": 16,
    }
    config = LanguageModelConfig(**{**fields, **MODELS[kind], **changes})
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    return model.astype(dtype)


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of model, for `build`."""
    return str(request.param)


@pytest.fixture
def build() -> Callable[..., LanguageModel]:
    """The function `build_model`."""
    return build_model


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The ids of forked processes, two of which decode every model; all must be gone in the end."""
    processes: list[int] = []
    fork = os.fork

    def spy() -> int:
        processes.append(fork())
        return processes[-1]

    monkeypatch.setattr(os, "fork", spy)
    monkeypatch.setattr(resources, "SMALL_MODEL", 0)
    monkeypatch.setattr(resources, "available_cores", lambda: 2)
    monkeypatch.setattr(decoder, "can_all_gather", lambda: True)
    yield processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
