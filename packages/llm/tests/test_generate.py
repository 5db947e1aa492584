"""Generation of ids and of text: stopping, streaming, seeds, batches, and refused arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.llm import (
    Completion,
    LanguageModel,
    LanguageModelConfig,
    SamplingConfig,
    TextGenerator,
    TokenDataset,
    generate,
)
from axone.llm.generation.stop_strings import StopStrings
from axone.llm.types import Ids, Logits
from axone.nn import KVCache
from axone.tokenizer import BPETokenizer, CharTokenizer


class UniformModel:
    """A model that gives every token the same probability, and counts the tokens that it reads."""

    def __init__(self, vocab_size: int, *, context_length: int = 8, eos_ids: tuple[int, ...] = ()) -> None:
        self.config = LanguageModelConfig(
            vocab_size=vocab_size, context_length=context_length, num_layers=1, num_heads=1, embed_dim=1
        )
        self.eos_ids = eos_ids
        self.read: list[tuple[int, ...]] = []

    def make_caches(self, batch: int, length: int) -> list[KVCache]:
        return [KVCache(batch, 1, length, 1)]

    @contextlib.contextmanager
    def decoder(self, *, workers: int | None = None) -> Iterator[Callable[..., Logits]]:  # noqa: ARG002 - it never forks
        def decode(ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None, *, last_only: bool = True) -> Logits:
            assert last_only
            self.read.append(ids.shape)
            caches[0].append(*np.zeros((2, len(ids), 1, ids.shape[1], 1), np.float32))
            return np.zeros((len(ids), self.config.vocab_size), np.float32)

        yield decode


LETTERS = CharTokenizer.train("abcdefgh")


def rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_a_fake_of_twenty_lines_is_a_model() -> None:
    model = UniformModel(8)
    tokens = list(generate(model, [1, 2, 3], max_new_tokens=4000, rng=np.random.default_rng(0)))
    counts = np.bincount(tokens, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # chi-square of 7 degrees of freedom, p = 0.001
    assert model.read[:7] == [(1, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 4)]  # the last half of a full context
    assert set(model.read[6::5]) == {(1, 4)}
    assert model.read.count((1, 1)) == 4000 - 1 - len(model.read[6::5])


def test_model_is_asked_for_the_workers_that_the_caller_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = UniformModel(8), []
    decoder = model.decoder

    def spy(*, workers: int | None = None) -> Any:
        asked.append(workers)
        return decoder(workers=workers)

    monkeypatch.setattr(model, "decoder", spy)
    generator = TextGenerator(model, LETTERS)
    list(generate(model, [1], max_new_tokens=1, workers=1))
    list(generator.stream("a", max_new_tokens=1, workers=2))
    generator.complete(["a"], max_new_tokens=1, workers=3)
    generator.complete(["a"], max_new_tokens=1)
    assert asked == [1, 2, 3, None]


def test_text_ends_at_the_eos_of_the_model_unless_stop_ids_are_given() -> None:
    model = UniformModel(8, eos_ids=(2, 5))
    generator = TextGenerator(model, LETTERS)

    def ids(**options: Any) -> list[int]:
        return list(generate(model, [1], max_new_tokens=60, rng=np.random.default_rng(0), **options))

    free = ids(stop_ids=())
    assert len(free) == 60
    end = min(free.index(2), free.index(5))
    assert ids() == ids(stop_ids=None) == free[:end]
    assert ids(stop_ids=[4]) == ids(stop_ids=np.array([4])) == free[: free.index(4)]
    assert "".join(generator.stream("b", rng=np.random.default_rng(0))) == LETTERS.decode(free[:end])
    (completion,) = generator.complete(["b"], rngs=rngs(0))
    assert (completion.ids, completion.stopped) == (free[:end], True)


def test_ids_that_the_tokenizer_lacks_are_never_drawn() -> None:
    model = UniformModel(64)  # a vocabulary padded to a multiple of 64
    generator = TextGenerator(model, LETTERS)
    for seed in range(50):
        text = "".join(generator.stream("a", max_new_tokens=20, rng=np.random.default_rng(seed)))
        assert len(text) == 20
    for completion in generator.complete(["a"] * 20, max_new_tokens=20):
        assert max(completion.ids) < LETTERS.vocab_size
        np.testing.assert_allclose(completion.log_probabilities, -np.log(64), rtol=1e-6)
    assert max(generate(model, [0], max_new_tokens=200, rng=np.random.default_rng(0))) >= LETTERS.vocab_size


def test_finished_sequences_leave_the_batch() -> None:
    model = UniformModel(8, context_length=64, eos_ids=(0,))
    completions = TextGenerator(model, LETTERS).complete(["b"] * 6, max_new_tokens=50, rngs=rngs(*range(6)))
    lengths = sorted(len(completion.ids) for completion in completions)
    live = [sum(length >= step for length in lengths) for step in range(lengths[-1] + 1)]
    assert model.read == [(1, 1), *((count, 1) for count in live[1:])]  # equal prompts are read once
    for seed, completion in enumerate(completions):
        text = "".join(TextGenerator(model, LETTERS).stream("b", max_new_tokens=50, rng=np.random.default_rng(seed)))
        assert completion.text == text


def test_sampling_options_are_accepted_as_a_whole_or_one_by_one(model: LanguageModel, dataset: TokenDataset) -> None:
    config = SamplingConfig(temperature=0.7, top_k=5, repetition_penalty=1.2)
    single: dict[str, Any] = {"temperature": 0.7, "top_k": 5, "repetition_penalty": 1.2}
    generator = TextGenerator(model, dataset.tokenizer)

    def four_ways(**options: Any) -> list[list[int]]:
        ids = dataset.tokenizer.encode("the")
        texts = [
            list(generate(model, ids, max_new_tokens=20, rng=np.random.default_rng(1), **options)),
            list(model.generate(ids, max_new_tokens=20, rng=np.random.default_rng(1), **options)),
            dataset.tokenizer.encode(
                "".join(generator.stream("the", max_new_tokens=20, rng=np.random.default_rng(1), **options))
            ),
            generator.complete(["the"], max_new_tokens=20, rngs=rngs(1), **options)[0].ids,
        ]
        assert all(text == texts[0] for text in texts)
        return texts

    assert four_ways(sampling=config) == four_ways(**single) != four_ways()
    calls: list[Callable[..., object]] = [
        lambda **options: generate(model, [1], max_new_tokens=1, **options),
        lambda **options: model.generate([1], max_new_tokens=1, **options),
        lambda **options: generator.stream("the", **options),
        lambda **options: generator.complete(["the"], **options),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"sampling .*must not be given together"):
            call(sampling=config, temperature=0.5)
        with pytest.raises(TypeError, match="temprature"):
            call(temprature=0.5)
        with pytest.raises(ValueError, match=r"top_k \(0\) must be at least 1"):
            call(top_k=0)
        with pytest.raises(TypeError, match=r"temperature \('hot'\) must be a number"):
            call(temperature="hot")


def test_a_seed_gives_the_same_text(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    texts = ["".join(generator.stream("the", max_new_tokens=20, rng=np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 20


def test_a_stop_string_ends_the_text_and_is_not_yielded(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    free = "".join(generator.stream("the", max_new_tokens=30, rng=np.random.default_rng(2)))
    stop = free[10:13]
    stopped = "".join(generator.stream("the", max_new_tokens=30, rng=np.random.default_rng(2), stop=[stop, "\0"]))
    assert stopped == free[: free.find(stop)]


def test_a_stop_string_ends_the_decoder_at_once() -> None:
    model, ended = UniformModel(8), []
    decoder = model.decoder

    @contextlib.contextmanager
    def spy(*, workers: int | None = None) -> Iterator[Callable[..., Logits]]:
        try:
            with decoder(workers=workers) as decode:
                yield decode
        finally:
            ended.append(True)

    model.decoder = spy  # type: ignore[method-assign]  # for this object alone
    pieces = TextGenerator(model, LETTERS).stream("a", stop=list("abcdefgh"))
    assert list(pieces) == []
    assert ended == [True]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stop_string_is_found_in_text_of_any_pieces(size: int) -> None:
    whole = "aab aabaab aabaaac tail"
    for stop in (["aabaac"], ["aabaaac"], ["tail", "aaac"], ["zz"], ["l"], ["aab", " "]):
        text = StopStrings(stop)
        pieces = [whole[a:b] for a, b in pairwise([*range(0, len(whole), size), len(whole)])]
        out = ""
        for piece in pieces:
            out += text.push(piece)
            if text.stopped:
                break
        out += text.flush()
        ends = [whole.find(each) for each in stop if each in whole]
        assert out == whole[: min(ends, default=len(whole))], stop
        assert text.stopped == bool(ends)


def test_one_string_is_refused_where_several_are_wanted(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    with pytest.raises(TypeError, match=r"prompts \('model'\) must be a list of strings: write \['model'\]"):
        generator.complete("model")
    for call in (lambda: generator.stream("the", stop="fox"), lambda: generator.complete(["the"], stop="fox")):
        with pytest.raises(TypeError, match=r"stop \('fox'\) must be a list of strings: write \['fox'\]"):
            call()
    for others in (Path("model"), b"model", [Path("model")], {"model": 1}, 5):
        with pytest.raises(TypeError, match=r"prompts \(.+\) must be a list of strings"):
            generator.complete(others)  # type: ignore[arg-type]  # the fault
        with pytest.raises(TypeError, match=r"stop \(.+\) must be a list of strings"):
            generator.stream("the", stop=others)  # type: ignore[arg-type]  # the fault
    with pytest.raises(ValueError, match=r"stop \(\[''\]\) must not hold an empty string"):
        generator.stream("the", stop=[""])


def test_several_prompts_are_completed_as_each_alone(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    texts, seeds = ["the quick", "o", "jumps over the lazy dog. and"], [5, 6, 7]
    sampling = SamplingConfig(temperature=1.3, top_k=20, repetition_penalty=1.1)
    together = generator.complete(texts, max_new_tokens=40, rngs=rngs(*seeds), stop=["z"], sampling=sampling)
    for text, seed, completion in zip(texts, seeds, together):
        rng = np.random.default_rng(seed)
        streamed = "".join(generator.stream(text, max_new_tokens=40, rng=rng, stop=["z"], sampling=sampling))
        assert completion.text == streamed
        assert completion.stopped == (len(completion.ids) < 40 or "z" in dataset.tokenizer.decode(completion.ids))
        assert len(completion.ids) == len(completion.log_probabilities)
    assert generator.complete([]) == []


def test_log_probabilities_are_the_models(model: LanguageModel, dataset: TokenDataset) -> None:
    (completion,) = TextGenerator(model, dataset.tokenizer).complete(["the"], max_new_tokens=8, temperature=0)
    ids = [*dataset.tokenizer.encode("the"), *completion.ids]
    logits = model(np.asarray([ids[:-1]])).data[0, 2:].astype(np.float64)
    logarithms = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    wanted = logarithms[np.arange(8), completion.ids]
    np.testing.assert_allclose(completion.log_probabilities, wanted, atol=1e-5)
    assert completion == Completion(
        dataset.tokenizer.decode(completion.ids), completion.ids, completion.log_probabilities, stopped=False
    )


def test_stop_ids_end_each_text_on_its_own(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    free = generator.complete(["the", "fox"], max_new_tokens=15, temperature=0)
    stop = free[0].ids[3]
    first, second = generator.complete(["the", "fox"], max_new_tokens=15, temperature=0, stop_ids=[stop])
    assert first.ids == free[0].ids[: free[0].ids.index(stop)]
    assert first.stopped
    assert second.ids == (free[1].ids[: free[1].ids.index(stop)] if stop in free[1].ids else free[1].ids)


def test_generators_are_as_many_as_prompts(model: LanguageModel, dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match=r"rngs \(1\) must be as many as prompts \(2\)"):
        TextGenerator(model, dataset.tokenizer).complete(["a", "b"], rngs=rngs(1))


def test_a_stream_never_breaks_a_character() -> None:
    text = "日本語 🐌 naïve café 日本語 🐌"
    tokenizer = BPETokenizer.train(text, 260)
    config = LanguageModelConfig(vocab_size=260, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    generator = TextGenerator(LanguageModel(config, rng=np.random.default_rng(0)).eval(), tokenizer)
    for seed in range(20):
        one, other = rngs(seed, seed)
        pieces = list(generator.stream("日", max_new_tokens=50, rng=one))
        ids = list(generate(generator.model, tokenizer.encode("日"), max_new_tokens=50, rng=other))
        assert "".join(pieces) == tokenizer.decode(ids)


def test_generation_records_nothing_and_leaves_recording_on(model: LanguageModel) -> None:
    tokens = generate(model, [1], max_new_tokens=2)
    next(tokens)
    assert model(np.zeros((1, 2), np.int64)).requires_grad


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], "a prompt of no tokens cannot be continued: give at least one token"),
        ([99], r"prompt_ids \(from 99 to 99\) must be in \[0, "),
        ([-1], r"prompt_ids \(from -1 to -1\) must be in \[0, "),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_at_the_call(
    model: LanguageModel, prompt: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        generate(model, prompt, max_new_tokens=1)


def test_a_prompt_of_text_is_refused(model: LanguageModel) -> None:
    with pytest.raises(TypeError, match=r"prompt_ids \('abc'\) must be a sequence of token ids, which are integers"):
        generate(model, "abc", max_new_tokens=1)  # type: ignore[arg-type]  # on purpose


def test_a_negative_number_of_tokens_is_refused(model: LanguageModel, dataset: TokenDataset) -> None:
    assert list(generate(model, [1], max_new_tokens=0)) == []
    generator = TextGenerator(model, dataset.tokenizer)
    calls: list[Callable[[], object]] = [
        lambda: generate(model, [1], max_new_tokens=-1),
        lambda: generator.stream("the", max_new_tokens=-1),
        lambda: generator.complete(["the"], max_new_tokens=-1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"max_new_tokens \(-1\) must be at least 0"):
            call()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_damaged_model_is_refused(model: LanguageModel, temperature: float) -> None:
    model.eval()
    model.embedding.weight.data[3] = np.nan  # also the head: one logit
    with pytest.raises(ValueError, match=r"the largest logit \(nan\) must be finite"):
        list(generate(model, [1], max_new_tokens=2, temperature=temperature))
