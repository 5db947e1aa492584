"""Generation: greedy and drawn, short and past the context, as ids and as text."""

import numpy as np
import pytest

from axone.llm import LanguageModel, Sampling, TextGenerator, TokenDataset, generate


def greedy_without_cache(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    ids, length = list(prompt), model.config.context_length
    window = ids[-length:]
    for _ in range(count):
        if len(window) > length:
            window = ids[-(length // 2) :]
        token = int(model(np.asarray([window])).data[0, -1].argmax())
        ids.append(token)
        window.append(token)
    return ids[len(prompt) :]


def test_the_cache_gives_the_same_tokens_also_past_the_context(model: LanguageModel) -> None:
    prompt = [1, 2, 3]
    tokens = list(generate(model, prompt, max_new_tokens=40, temperature=0))
    assert tokens == greedy_without_cache(model, prompt, 40)


def test_a_seed_gives_the_same_text(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    texts = ["".join(generator.stream("the", max_new_tokens=20, rng=np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 20


def test_a_stop_id_ends_it_and_is_not_yielded(model: LanguageModel) -> None:
    free = list(generate(model, [1], max_new_tokens=20, temperature=0))
    stop = free[5]
    assert list(generate(model, [1], max_new_tokens=20, temperature=0, stop_ids=[stop])) == free[: free.index(stop)]


def test_a_stop_text_ends_it_and_is_not_yielded(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    free = "".join(generator.stream("the", max_new_tokens=30, rng=np.random.default_rng(2)))
    stop = free[10:13]
    stopped = "".join(generator.stream("the", max_new_tokens=30, rng=np.random.default_rng(2), stop=[stop, "\0"]))
    assert stopped == free[: free.find(stop)]


def test_generation_records_nothing_and_leaves_recording_on(model: LanguageModel) -> None:
    tokens = generate(model, [1], max_new_tokens=2)
    next(tokens)
    assert model(np.zeros((1, 2), np.int64)).requires_grad


@pytest.mark.parametrize(("prompt", "reason"), [([], "at least one token"), ([99], "from 0 to"), ([-1], "from 0 to")])
def test_a_prompt_that_cannot_be_read_is_refused(model: LanguageModel, prompt: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        next(generate(model, prompt, max_new_tokens=1))


def test_draws_follow_the_probabilities() -> None:
    rng, logits = np.random.default_rng(0), np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    draws = [Sampling().choose(logits, np.array([]), rng) for _ in range(20_000)]
    np.testing.assert_allclose(np.bincount(draws) / len(draws), np.exp(logits), atol=0.012)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.75}, [0, 1]),
        ({"top_p": 0.81}, [0, 1, 2]),
        ({"min_p": 0.2}, [0, 1, 2]),
        ({"top_k": 3, "min_p": 0.5}, [0, 1]),
    ],
)
def test_filters_leave_what_they_should(options: dict[str, float], left: list[int]) -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    filtered = Sampling(**options).filter(logits, np.array([]))  # type: ignore[arg-type]  # each of its option's type
    assert np.flatnonzero(np.isfinite(filtered)).tolist() == left


def test_extreme_temperatures_stay_finite() -> None:
    logits = np.array([1e4, -1e4, 0.0], np.float32)
    for temperature in (1e-6, 1e6):
        assert Sampling(temperature=temperature).choose(logits, np.array([]), np.random.default_rng(0)) in range(3)


def test_a_penalty_makes_what_occurred_less_probable() -> None:
    filtered = Sampling(repetition_penalty=2.0, temperature=0).filter(np.array([4.0, -1.0, 1.0]), np.array([0, 1, 0]))
    np.testing.assert_array_equal(filtered, [2.0, -2.0, 1.0])
