"""DecodingBatch: sequences in a batch get the logits that they get alone, also past the context."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig
from axone.llm.generation.batch import DecodingBatch
from axone.llm.runtime import resources

Build = Callable[..., LanguageModel]
BOUNDS: dict[Any, float] = {np.float32: 1e-3, np.float64: 1e-10}


def prompts(count: int, longest: int) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 19, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def window_of(ids: list[int], prompt: list[int], length: int) -> list[int]:
    """Return the tokens that the model sees if each full context continues from its last half."""
    window = prompt[-length:]
    for token in ids[len(prompt) :]:
        window = [*window, token]
        if len(window) > length:
            window = window[-(length // 2) :]
    return window


def gap(logits: np.ndarray) -> float:
    second, first = np.sort(logits)[-2:]
    return float(first - second)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("kind", ["gpt2", "one key head"])
def test_cache_changes_neither_logits_nor_tokens(kind: str, dtype: Any, build: Build) -> None:
    model = build(kind, dtype)
    compared = 0
    for prompt in prompts(200, 14):
        with DecodingBatch(model, [prompt]) as batch:
            for _ in range(5):
                logits = batch.logits()[0]
                plain = model(np.asarray([window_of(batch.sequences[0], prompt, 12)])).data[0, -1]
                assert logits.dtype == dtype
                assert np.abs(logits - plain).max() < BOUNDS[dtype]
                if gap(plain) > 1e-2:
                    compared += 1
                    assert logits.argmax() == plain.argmax()
                batch.append([int(plain.argmax())])
    assert compared > 950


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_sequences_in_a_batch_get_the_logits_that_they_get_alone(kind: str, dtype: Any, build: Build) -> None:
    model, every, left = build(kind, dtype), prompts(7, 14), list(range(7))
    with contextlib.ExitStack() as stack:
        together = stack.enter_context(DecodingBatch(model, every))
        alone = [stack.enter_context(DecodingBatch(model, [prompt])) for prompt in every]
        for step in range(60):
            logits = together.logits()
            for row, number in enumerate(left):
                assert np.abs(logits[row] - alone[number].logits()[0]).max() < BOUNDS[dtype]
                alone[number].append([int(logits[row].argmax())])
            together.append([int(row.argmax()) for row in logits])
            if step in {5, 30}:  # some sequences end
                left = left[1::2]
                together.keep(range(len(logits))[1::2])
    assert len(left) == 1


@pytest.mark.parametrize("context_length", [1, 2, 3])
def test_shortest_contexts_work(context_length: int, build: Build) -> None:
    model = build("gpt2", np.float64, context_length=context_length)
    with DecodingBatch(model, [[1, 2, 3], [4]]) as together, DecodingBatch(model, [[1, 2, 3]]) as alone:
        for _ in range(8):
            np.testing.assert_allclose(together.logits()[0], alone.logits()[0], atol=1e-10)
            together.append([5, 6])
            alone.append([5])


def test_prefill_in_threads_of_padding_alone_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "SMALL_MODEL", 0)
    config = LanguageModelConfig(vocab_size=29, context_length=256, num_layers=2, num_heads=2, embed_dim=16)
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    every = [[1, 2, 3], [int(id) for id in np.arange(200) % 29]]
    with DecodingBatch(model, every, workers=4) as together, DecodingBatch(model, every, workers=1) as alone:
        np.testing.assert_allclose(together.logits(), alone.logits(), atol=1e-5)
