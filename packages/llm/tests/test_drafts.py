"""Drafts: lookups, exactness of the text on every path, and what is read for guesses that are right or wrong."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Draft,
    LanguageModel,
    LanguageModelConfig,
    PromptCache,
    SamplingConfig,
    TextGenerator,
    TokenDataset,
    generate,
)
from axone.llm.generation import decoder
from axone.llm.generation.drafting import PromptLookup
from axone.llm.generation.speculation import Speculation
from axone.llm.generation.tensor_parallel import TensorParallelDecoder
from axone.llm.runtime import resources
from axone.llm.types import Ids, Logits
from axone.nn import KVCache
from axone.tokenizer import CharTokenizer

Build = Callable[..., LanguageModel]
LOOP = [1, 5, 9, 2, 7, 1, 5, 9, 2, 7, 1, 5]
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


class ScriptedModel:
    """A model with fixed logits after each token; it counts the tokens that it reads."""

    def __init__(self, logits: np.ndarray, *, context_length: int = 1 << 20) -> None:
        self.config = LanguageModelConfig(
            vocab_size=len(logits), context_length=context_length, num_layers=1, num_heads=1, embed_dim=1
        )
        self.eos_ids: tuple[int, ...] = ()
        self.logits = logits
        self.read: list[int] = []

    def make_caches(self, batch: int, length: int) -> list[KVCache]:
        return [KVCache(batch, 1, length, 1)]

    @contextlib.contextmanager
    def decoder(self, *, workers: int | None = None) -> Iterator[Callable[..., Logits]]:  # noqa: ARG002 - it never forks
        def decode(ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None, *, last_only: bool = True) -> Logits:
            assert starts is None
            self.read.append(ids.shape[1])
            caches[0].append(*np.zeros((2, 1, 1, ids.shape[1], 1), np.float32))
            rows: Logits = self.logits[ids]
            return rows[:, -1] if last_only else rows

        yield decode


def cycle(length: int) -> ScriptedModel:
    """Return a model that counts from 0 to the last token, again and again."""
    return ScriptedModel(np.roll(np.eye(length, dtype=np.float32), 1, axis=1) * 50)


def noise(size: int) -> ScriptedModel:
    """Return a model that gives every token the same probability."""
    return ScriptedModel(np.zeros((size, size), np.float32))


@pytest.fixture(params=["folded", "large", "forked"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A way to decode: folded weights, one process with BLAS, or forked processes."""
    if request.param != "folded":
        monkeypatch.setattr(resources, "SMALL_MODEL", 0)
    monkeypatch.setattr(resources, "available_cores", lambda: 2 if request.param == "forked" else 1)
    if request.param == "forked":
        if sys.platform != "linux":
            pytest.skip("processes are forked on Linux")
        monkeypatch.setattr(decoder, "can_all_gather", lambda: True)
    return str(request.param)


@pytest.mark.parametrize("context_length", [12, 64])
def test_greedy_text_with_drafts_is_that_without(path: str, kind: str, context_length: int, build: Build) -> None:
    model = build(kind, np.float32 if path == "forked" else np.float64, context_length=context_length)
    text = list(generate(model, LOOP, max_new_tokens=60, temperature=0))
    for draft in ("prompt", Draft(np.r_[LOOP, text]), Draft(np.arange(40) % 19)):
        assert list(generate(model, LOOP, max_new_tokens=60, temperature=0, draft=draft)) == text


def test_sampled_text_with_drafts_is_that_without(path: str, kind: str, build: Build) -> None:
    model = build(kind, np.float32 if path == "forked" else np.float64)
    sampling = SamplingConfig(temperature=0.7, top_k=9, top_p=0.95, min_p=0.01, repetition_penalty=1.05)

    def text(draft: Any) -> list[int]:
        rng = np.random.default_rng(3)
        return list(generate(model, LOOP, max_new_tokens=60, sampling=sampling, rng=rng, draft=draft))

    without = text(None)
    assert text("prompt") == without
    assert text(Draft(np.r_[LOOP, without])) == without


def test_sampling_with_drafts_keeps_the_distribution() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 6)).astype(np.float32) * 1.5
    model = ScriptedModel(logits)
    tokens = [0, *generate(model, [0], max_new_tokens=30_000, rng=rng, draft="prompt")]
    assert sum(count > 1 for count in model.read) > 1000  # guesses were verified
    counts = np.zeros((6, 6))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = p * counts.sum(axis=1, keepdims=True)
    assert ((counts - expected) ** 2 / expected).sum() < 59.7  # chi-square of 30 degrees of freedom, p = 0.001


def test_right_guesses_are_read_together() -> None:
    model = cycle(20)
    tokens = list(generate(model, range(20), max_new_tokens=400, temperature=0, draft="prompt"))
    assert tokens == [number % 20 for number in range(400)]
    assert len(model.read) < 60
    model.read.clear()
    draft = Draft(np.arange(100) % 20)
    assert list(generate(model, [0], max_new_tokens=400, temperature=0, draft=draft)) == [*tokens[1:], 0]
    assert len(model.read) < 60


def test_wrong_guesses_are_soon_no_longer_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speculation, "time", lambda *_: None)  # reads of several tokens take longer, unlike here
    model = noise(8)  # every short n-gram has occurred before, and predicts nothing
    rng = np.random.default_rng(0)
    assert len(list(generate(model, [0], max_new_tokens=2000, rng=rng, draft="prompt"))) == 2000
    rejected = sum(model.read) - 2000
    assert 0 < rejected < 2000 * 0.05 / 0.3  # a guess takes 0.3 of the time of a token, and further ones 0.15


def test_guesses_begin_again_when_the_text_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speculation, "time", lambda *_: None)
    rng = np.random.default_rng(0)
    table = rng.permuted(np.tile(np.arange(40), (40, 1)), axis=1) * 0.02
    table[20:] = np.roll(np.eye(40), 1, axis=1)[20:] * 50  # from 20 on, the model counts
    table[39] = np.eye(40)[20] * 50
    table[:20, 20:] = -50
    table[19, 20] = 5
    model = ScriptedModel(table.astype(np.float32))
    tokens = list(generate(model, [0], max_new_tokens=1500, rng=rng, draft="prompt"))
    begin = tokens.index(20)
    assert 1400 > begin > 5
    assert len(model.read) < begin + 20 + 256 + (1500 - begin) / 4  # at most one pause of 256 tokens


def test_context_and_number_of_tokens_bound_the_guesses() -> None:
    model = cycle(20)
    model.config = LanguageModelConfig(vocab_size=20, context_length=32, num_layers=1, num_heads=1, embed_dim=1)
    for count in (1, 2, 7, 300):
        model.read.clear()
        tokens = list(generate(model, range(20), max_new_tokens=count, temperature=0, draft="prompt"))
        assert tokens == [number % 20 for number in range(count)]
        assert sum(model.read) <= 20 + 3 * count


def test_stop_id_among_the_guesses_ends_the_text() -> None:
    model = cycle(20)
    for stop in range(1, 20):
        tokens = list(generate(model, range(20), max_new_tokens=99, temperature=0, stop_ids=[stop], draft="prompt"))
        assert tokens == list(range(stop))


def test_prompt_cache_holds_no_rejected_guess(path: str, build: Build) -> None:
    model = build("llama", np.float32 if path == "forked" else np.float64, context_length=48)
    for taken in range(1, 30):
        cache = PromptCache(model)
        tokens = generate(model, LOOP, max_new_tokens=30, temperature=0, prompt_cache=cache, draft="prompt")
        new = [next(tokens) for _ in range(taken)]
        tokens.close()  # type: ignore[attr-defined]  # it is a generator
        read = [*LOOP, *new]
        assert cache.ids == read[: len(cache.ids)]
        assert len(cache.ids) >= len(read) - 1
        assert cache.caches[0].length == len(cache.ids)
        again = list(generate(model, [*read, 3], max_new_tokens=5, temperature=0, prompt_cache=cache))
        assert again == list(generate(model, [*read, 3], max_new_tokens=5, temperature=0))


@needs_fork
def test_forked_processes_decode_guesses(monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    monkeypatch.setattr(resources, "SMALL_MODEL", 0)
    monkeypatch.setattr(resources, "available_cores", lambda: 2)
    monkeypatch.setattr(decoder, "can_all_gather", lambda: True)
    forks, fork = [], os.fork

    def spy() -> int:
        forks.append(fork())
        return forks[-1]

    monkeypatch.setattr(os, "fork", spy)
    counts: list[int] = []
    decode = TensorParallelDecoder.decode

    def noted(self: Any, tokens: list[int], position: int, starts: Sequence[int] = ()) -> Any:
        counts.append(len(tokens))
        return decode(self, tokens, position, starts)

    monkeypatch.setattr(TensorParallelDecoder, "decode", noted)
    model = build("llama", context_length=200)
    text = list(generate(model, LOOP, max_new_tokens=100, temperature=0))
    counts.clear()
    assert list(generate(model, LOOP, max_new_tokens=100, temperature=0, draft=Draft(np.r_[LOOP, text]))) == text
    assert max(counts) > 3
    assert len(forks) == 2


def test_every_way_to_generate_takes_a_draft(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model.eval(), dataset.tokenizer)
    prompt = dataset.tokenizer.encode("the fox the fox the")
    for draft in ("prompt", Draft(dataset)):
        options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0, "draft": draft}
        ids = list(model.generate(prompt, **options))
        assert ids == list(generate(model, prompt, max_new_tokens=30, temperature=0))
        assert "".join(generator.stream("the fox the fox the", **options)) == dataset.tokenizer.decode(ids)
    for call in (
        lambda draft: model.generate([1], max_new_tokens=1, draft=draft),
        lambda draft: generator.stream("the", draft=draft),
    ):
        with pytest.raises(ValueError, match=r"draft \('corpus'\) must be \"prompt\" or a Draft"):
            call("corpus")
        with pytest.raises(TypeError, match=r"draft \(5\) must be \"prompt\" or a Draft"):
            call(5)


def test_guesses_beyond_the_vocabulary_of_the_model_are_dropped(model: LanguageModel) -> None:
    text = list(generate(model.eval(), [1, 2, 3], max_new_tokens=20, temperature=0))
    foreign = Draft(np.arange(500) * 7 % 400)
    assert list(generate(model, [1, 2, 3], max_new_tokens=20, temperature=0, draft=foreign)) == text


def test_prompt_lookup_continues_the_longest_match() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3])
    assert [guess.token for guess in lookup.guess(3)] == [5, 7, 2]  # the last of two matches of two tokens
    lookup = PromptLookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3])
    assert [guess.token for guess in lookup.guess(2)] == [4, 9]  # a match of three tokens
    lookup.push(8)
    assert lookup.guess(2) == []
    lookup.push(1)
    assert [guess.token for guess in lookup.guess(1)] == [2]


def test_prompt_lookup_continues_a_copy_after_an_edited_word() -> None:
    source = [1, 2, 3, 4, 50, 51, 7, 8, 9, 7, 6, 20, 21, 22, 7, 5]

    def guessed(*text: int) -> list[int]:
        lookup = PromptLookup([*source, 1, 2, 3])
        guesses = lookup.guess(2)
        assert [guess.token for guess in guesses] == [4, 50]
        for token in text:
            lookup.push(token)
            guesses = lookup.guess(3)
        return [guess.token for guess in guesses]

    assert guessed(4, 60, 7) == [8, 9, 7]  # 50 and 51 became 60: not after the last 7
    assert guessed(60, 4) == [50, 51, 7]  # 60 was inserted
    assert guessed(4, 7) == [8, 9, 7]  # 50 and 51 were left out
    assert guessed(4, 60, 61, 7, 8, 9, 70, 7) == [6, 20, 21]  # another edit in the aligned copy
    assert guessed(4, 60, *range(30, 39), 7) == [5, 1, 2]  # too long ago
    assert guessed(4, 60, 22) == [7, 5, 1]  # too far away, but the only one
    assert guessed(4, 60, 22, 7) == [5, 1, 2]  # a match of two tokens is better


@pytest.mark.parametrize(("first", "further"), [(0.9, 0.02), (0.05, 0.3), (0.0, 0.05)])
def test_number_of_guesses_follows_the_times(first: float, further: float) -> None:
    speculation = Speculation(PromptLookup(LOOP), 100)
    rng = np.random.default_rng(0)
    for _ in range(400):
        count = int(rng.integers(16))
        speculation.time(count, 0.02 * (1 + (count > 0) * first + further * count) * rng.normal(1, 0.02))
    gains = np.cumsum(np.cumprod([speculation._probability(guess.kind) for guess in PromptLookup(LOOP).guess(15)]))
    best = int(np.argmax((1 + gains) / (1 + first + further * np.arange(1, 16)))) + 1
    assert abs(len(speculation.guess(15)) - best) <= 1


def test_prompt_lookup_continues_a_loop_beyond_the_end_of_the_text() -> None:
    assert [guess.token for guess in PromptLookup([9, 1, 2, 3, 1, 2, 3]).guess(8)] == [1, 2, 3, 1, 2, 3, 1, 2]
    assert [guess.token for guess in PromptLookup([4, 4]).guess(3)] == [4, 4, 4]


def test_draft_backs_off_to_shorter_n_grams() -> None:
    corpus = CharTokenizer.train("abcdxyz ")
    draft = Draft(TokenDataset.from_text("abcd abcd abcd xbcy xbcz xbcy bcd bcd", corpus))

    def guessed(text: str, most: int = 1) -> str:
        return corpus.decode([guess.token for guess in draft.lookup(corpus.encode(text)).guess(most)])

    assert guessed("abc") == "d"
    assert guessed("xbc") == "y"
    assert guessed("zbc") == "d"  # the most frequent after "bc"
    assert guessed("zzzzc") == "d"
    assert guessed("ab", 6) == "cd abc"
    assert repr(draft).startswith("Draft(")
    assert Draft([1, 2]).lookup([2]).guess(3) == []
    assert Draft([4]).lookup([4]).guess(3) == []


def test_draft_counts_as_a_dictionary_does() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, 3000).tolist()
    draft = Draft(np.asarray(tokens, np.uint16), max_order=4)
    for _ in range(200):
        context = rng.integers(0, 5, 4).tolist()
        order, after = 5, list[int]()
        while len(after) < 2:
            order -= 1
            own = context[-order:]
            after = [tokens[at + order] for at in range(len(tokens) - order) if tokens[at : at + order] == own]
        counts = np.bincount(after, minlength=5)
        (guess,) = draft.lookup(context).guess(1)
        assert guess.token == counts.argmax()
        assert guess.kind == (order - 1) * 5 + int(counts.max() / (len(after) + 1) * 5)


@pytest.mark.parametrize("corpus", [[], [[1, 2]], [0.5], "abc"])
def test_corpus_must_be_one_row_of_ids(corpus: Any) -> None:
    with pytest.raises(ValueError, match=r"corpus \(shape .*\) must be one row of at least one token id"):
        Draft(corpus)


def test_sizes_of_a_draft_are_at_least_1() -> None:
    with pytest.raises(ValueError, match=r"max_order \(0\) must be at least 1"):
        Draft([1], max_order=0)
    with pytest.raises(ValueError, match=r"max_tokens \(0\) must be at least 1"):
        Draft([1], max_tokens=0)
