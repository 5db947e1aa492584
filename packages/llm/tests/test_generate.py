"""Generation: with and without a cache, alone and in a batch, short and past the context, as ids and as text."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from axone.llm import Completion, LanguageModel, LanguageModelConfig, TextGenerator, TokenDataset, generate
from axone.llm.generation.batch import BatchReader
from axone.llm.generation.generate import SamplingOptions
from axone.llm.generation.stop_strings import StopText
from axone.tokenizer import BPETokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "modern": {
        "norm": "rms",
        "position": "rotary",
        "mlp": "swiglu",
        "qk_norm": True,
        "bias": False,
        "num_kv_heads": 1,
        "tie_embeddings": False,
    },
}
BOUNDS = {np.float32: 1e-4, np.float64: 1e-10}


def model_of(shape: str, dtype: type[np.floating], context_length: int = 12) -> LanguageModel:
    """Return a model whose logits are far from equal."""
    config = LanguageModelConfig(
        vocab_size=40, context_length=context_length, num_layers=2, num_heads=2, embed_dim=16, **SHAPES[shape]
    )
    model = LanguageModel(config, rng=np.random.default_rng(3)).eval()
    for name, parameter in model.named_parameters():
        scale = 1 if "norm" in name else 4
        parameter.data = (parameter.data * scale).astype(dtype)
    return model


def prompts(count: int, longest: int) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 40, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def window_of(ids: list[int], prompt: list[int], length: int) -> list[int]:
    """Return what is read when each full context goes on from its last half, without a cache."""
    window = prompt[-length:]
    for token in ids[len(prompt) :]:
        window = [*window, token]
        if len(window) > length:
            window = window[-(length // 2) :]
    return window


def gap(logits: np.ndarray) -> float:
    second, first = np.sort(logits)[-2:]
    return float(first - second)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cache_changes_no_logit_and_no_token(shape: str, dtype: type[np.floating]) -> None:
    model = model_of(shape, dtype)
    compared = 0
    for prompt in prompts(200, 14):
        reader = BatchReader(model, [prompt])
        for _ in range(5):
            logits = reader.logits()[0]
            window = window_of(reader.sequences[0], prompt, 12)
            plain = model(np.asarray([window])).data[0, -1]
            assert logits.dtype == dtype
            assert np.abs(logits - plain).max() < BOUNDS[dtype]
            if gap(plain) > 1e-3:
                compared += 1
                assert logits.argmax() == plain.argmax()
            reader.append([int(plain.argmax())])
    assert compared > 950


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_company_changes_no_logit(shape: str, dtype: type[np.floating]) -> None:
    model = model_of(shape, dtype)
    every = prompts(7, 14)
    together, alone = BatchReader(model, every), [BatchReader(model, [prompt]) for prompt in every]
    left = list(range(7))
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
def test_the_shortest_contexts_work(context_length: int) -> None:
    model = model_of("gpt2", np.float64, context_length)
    together, alone = BatchReader(model, [[1, 2, 3], [4]]), BatchReader(model, [[1, 2, 3]])
    for _ in range(8):
        np.testing.assert_allclose(together.logits()[0], alone.logits()[0], atol=1e-10)
        together.append([5, 6])
        alone.append([5])


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


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stop_text_is_found_however_the_text_is_cut(size: int) -> None:
    whole = "aab aabaab aabaaac tail"
    for stop in (["aabaac"], ["aabaaac"], ["tail", "aaac"], ["zz"], ["l"], ["aab", " "]):
        text = StopText(stop)
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


def test_a_stop_text_is_no_single_string(model: LanguageModel, dataset: TokenDataset) -> None:
    for stop in ("the", [""]):
        with pytest.raises(ValueError, match="must be a list of texts that are not empty"):
            list(TextGenerator(model, dataset.tokenizer).stream("the", stop=stop))


def test_several_prompts_come_out_as_each_alone(model: LanguageModel, dataset: TokenDataset) -> None:
    generator = TextGenerator(model, dataset.tokenizer)
    texts, seeds = ["the quick", "o", "jumps over the lazy dog. and"], [5, 6, 7]
    options: SamplingOptions = {"temperature": 1.3, "top_k": 20, "repetition_penalty": 1.1}
    together = generator.complete(texts, max_new_tokens=40, seeds=seeds, stop=["z"], **options)
    for text, seed, completion in zip(texts, seeds, together):
        rng = np.random.default_rng(seed)
        streamed = "".join(generator.stream(text, max_new_tokens=40, rng=rng, stop=["z"], **options))
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


def test_seeds_are_as_many_as_prompts(model: LanguageModel, dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match="2 prompts came, and 1 seeds"):
        TextGenerator(model, dataset.tokenizer).complete(["a", "b"], seeds=[1])


def test_a_stream_never_breaks_a_character() -> None:
    text = "日本語 🐌 naïve café 日本語 🐌"
    tokenizer = BPETokenizer.train(text, 260)
    config = LanguageModelConfig(vocab_size=260, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    generator = TextGenerator(LanguageModel(config, rng=np.random.default_rng(0)).eval(), tokenizer)
    for seed in range(20):
        rngs = [np.random.default_rng(seed) for _ in range(2)]
        pieces = list(generator.stream("日", max_new_tokens=50, rng=rngs[0]))
        ids = list(generate(generator.model, tokenizer.encode("日"), max_new_tokens=50, rng=rngs[1]))
        assert "".join(pieces) == tokenizer.decode(ids)


def test_generation_records_nothing_and_leaves_recording_on(model: LanguageModel) -> None:
    tokens = generate(model, [1], max_new_tokens=2)
    next(tokens)
    assert model(np.zeros((1, 2), np.int64)).requires_grad


@pytest.mark.parametrize(("prompt", "reason"), [([], "at least one token"), ([99], "from 0 to"), ([-1], "from 0 to")])
def test_a_prompt_that_cannot_be_read_is_refused(model: LanguageModel, prompt: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        next(generate(model, prompt, max_new_tokens=1))


def test_a_prompt_of_text_is_refused(model: LanguageModel) -> None:
    with pytest.raises(TypeError, match="a prompt is a sequence of token ids, whole numbers, and this one is 'abc'"):
        next(generate(model, "abc", max_new_tokens=1))  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_damaged_model_is_refused(model: LanguageModel, temperature: float) -> None:
    model.eval()
    model.embedding.weight.data[3] = np.nan  # also the head: one logit
    with pytest.raises(ValueError, match="the largest logit is a finite number, and it is nan"):
        list(generate(model, [1], max_new_tokens=2, temperature=temperature))
