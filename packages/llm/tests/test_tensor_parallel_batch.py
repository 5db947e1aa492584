"""Several sequences in forked processes: each gets the logits that it gets alone."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from axone.llm import LanguageModel, SamplingConfig, TextGenerator, TokenDataset
from axone.llm.generation.batch import DecodingBatch
from axone.llm.runtime import settings
from axone.llm.runtime.collectives import SharedAllGather
from axone.llm.runtime.resources import environment
from axone.llm.runtime.settings import blas_threads
from axone.nn import cache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
Build = Callable[..., LanguageModel]
IDS = np.random.default_rng(2).integers(0, 19, 40).tolist()


def batch_number(sequence: list[int], prompts: list[list[int]]) -> int:
    """Return the number of the prompt with which a sequence begins, the longest of several."""
    fitting = [number for number, prompt in enumerate(prompts) if sequence[: len(prompt)] == prompt]
    return max(fitting, key=lambda number: len(prompts[number]))


def window_of(sequence: list[int], prompt: list[int], length: int) -> list[int]:
    """Return the tokens that the model sees if each full context continues from its last half."""
    window = prompt[-length:]
    for token in sequence[len(prompt) :]:
        window = [*window, token]
        if len(window) > length:
            window = window[-(length // 2) :]
    return window


@pytest.mark.parametrize("workers", [2, 3])
def test_each_of_several_sequences_gets_the_logits_that_it_gets_alone(
    forked: list[int], kind: str, workers: int, build: Build
) -> None:
    model = build(kind, np.float64)
    every = [IDS[:3], IDS[3:10], IDS[10:11], IDS[11:15], IDS[15:30]]
    with DecodingBatch(model, every, workers=workers) as batch:
        for step in range(30):  # beyond the context of 12 tokens
            logits = batch.logits()
            for row, sequence in zip(logits, batch.sequences, strict=True):
                window = window_of(sequence, every[batch_number(sequence, every)], 12)
                np.testing.assert_allclose(row, model(np.asarray([window])).data[0, -1], atol=1e-10)
            batch.append([int(row.argmax()) for row in logits])
            if step in {4, 9}:
                batch.keep([0, 2, *range(3, len(logits))])
    assert len(forked) == workers - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_completions_in_forked_processes_are_those_in_one_process(
    forked: list[int], dataset: TokenDataset, dtype: type[np.floating], build: Build
) -> None:
    model = build("llama", dtype, vocab_size=dataset.tokenizer.vocab_size, context_length=24)
    generator = TextGenerator(model, dataset.tokenizer)
    texts = ["the", "quick brown", "the", "fox jumps over"]

    def completed(workers: int) -> list[list[int]]:
        rngs = [np.random.default_rng(seed) for seed in range(4)]
        sampling = SamplingConfig(temperature=0.8, top_k=9)
        options = {"max_new_tokens": 40, "rngs": rngs, "sampling": sampling, "stop": ["z"], "workers": workers}
        return [completion.ids for completion in generator.complete(texts, **options)]  # type: ignore[arg-type]  # of several types

    alone = completed(1)
    assert not forked
    assert completed(2) == alone
    assert forked


def test_forked_processes_survive_sequences_that_leave(forked: list[int], build: Build) -> None:
    model = build(dtype=np.float64, context_length=64)
    with DecodingBatch(model, [IDS[:3], IDS[3:6], IDS[6:9]]) as batch:
        for left in (3, 2, 1):
            batch.keep(range(left))
            for _ in range(3):
                whole = [model(np.asarray([sequence])).data[0, -1] for sequence in batch.sequences]
                np.testing.assert_allclose(batch.logits(), whole, atol=1e-11)
                batch.append(IDS[:left])
    assert len(forked) == 2  # for three and two sequences, and for one


def test_processes_are_forked_again_when_the_caches_of_a_batch_grow(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    monkeypatch.setattr(cache, "_FIRST_CAPACITY", 12)
    model = build("llama", np.float64, context_length=64)
    with DecodingBatch(model, [IDS[:3], IDS[3:6], IDS[6:9], IDS[9:12]]) as batch:
        for _ in range(10):
            whole = [model(np.asarray([sequence])).data[0, -1] for sequence in batch.sequences]
            np.testing.assert_allclose(batch.logits(), whole, atol=1e-11)
            batch.append(IDS[: len(whole)])
            if len(whole) == 4:
                batch.keep(range(3))
    assert len(forked) == 2  # 6 and 12 positions


def test_last_of_several_sequences_is_decoded_without_its_padding(forked: list[int], build: Build) -> None:
    model = build("llama", np.float64, context_length=64)
    with DecodingBatch(model, [IDS[:9], IDS[9:12]]) as batch:
        batch.logits()
        batch.append(IDS[:2])
        batch.keep([1])
        for token in IDS[2:6]:
            np.testing.assert_allclose(batch.logits(), model(np.asarray(batch.sequences)).data[:, -1], atol=1e-11)
            batch.append([token])
    assert len(forked) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_that_compute_the_same_chunk_at_the_same_time_change_no_product(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating], build: Build
) -> None:
    monkeypatch.setattr(SharedAllGather, "claim", lambda *_: True)
    model = build("gpt2", dtype, context_length=64)
    with DecodingBatch(model, [IDS[:3], IDS[3:6], IDS[6:9]]) as batch:
        for _ in range(30):
            whole = [model(np.asarray([sequence])).data[0, -1] for sequence in batch.sequences]
            np.testing.assert_allclose(batch.logits(), whole, atol=1e-4)
            batch.append(IDS[:3])
    assert len(forked) == 1


def test_blas_threads_are_set_once_for_a_batch_and_restored(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    before, written, write = environment()["blas_threads"], [], settings._blas_threads._write

    def noted(counts: list[int]) -> None:
        written.append(counts)
        write(counts)

    monkeypatch.setattr(settings._blas_threads, "_write", noted)
    model = build(context_length=64)
    with blas_threads(3), DecodingBatch(model, [IDS[:3], IDS[3:6]]) as batch:
        for _ in range(6):
            batch.logits()
            batch.append(IDS[:2])
        assert environment()["blas_threads"] in ([1], [])
    assert environment()["blas_threads"] == before
    assert written == ([[3], [1], [3], before] if before else [[], [], [], []])
    assert len(forked) == 1
