from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, PromptCache, TextGenerator, generate
from axone.llm.generation.batch import DecodingBatch
from axone.llm.generation.decoder import Decoder
from axone.llm.types import Ids, Logits
from axone.nn import KVCache
from axone.tokenizer import CharTokenizer

CONFIG = LanguageModelConfig(
    vocab_size=23,
    context_length=24,
    num_layers=2,
    num_heads=2,
    embed_dim=16,
    norm="rms",
    position="rotary",
    mlp="swiglu",
)
PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture
def model() -> LanguageModel:
    model = LanguageModel(CONFIG, rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape) / 2
    return model


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the shapes of all ids that decoders read from now on."""
    shapes: list[tuple[int, int]] = []
    call = Decoder.__call__

    def noted(
        self: Decoder, ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None, *, last_only: bool = True
    ) -> Logits:
        shapes.append((ids.shape[0], ids.shape[1]))
        return call(self, ids, caches, starts, last_only=last_only)

    monkeypatch.setattr(Decoder, "__call__", noted)
    return shapes


def greedy(model: LanguageModel, prompt: list[int], count: int, cache: PromptCache | None = None) -> list[int]:
    return list(generate(model, prompt, max_new_tokens=count, temperature=0, prompt_cache=cache))


def test_a_second_generation_reads_only_what_the_cache_lacks(model: LanguageModel, read: list[tuple[int, int]]) -> None:
    cache = PromptCache(model)
    new = greedy(model, PROMPT, 4, cache)
    assert new == greedy(model, PROMPT, 4)
    read.clear()
    longer = [*PROMPT, *new, 7, 8]
    again = greedy(model, longer, 3, cache)
    assert read == [(1, 3), (1, 1), (1, 1)]  # the last new token was not read before
    assert again == greedy(model, longer, 3)
    read.clear()
    other = [*PROMPT[:3], 9, 9]
    assert greedy(model, other, 3, cache) == greedy(model, other, 3)
    assert read[0] == (1, 2)


def test_the_same_prompt_again_reads_one_token(model: LanguageModel, read: list[tuple[int, int]]) -> None:
    cache = PromptCache(model)
    first = greedy(model, PROMPT, 4, cache)
    read.clear()
    assert greedy(model, PROMPT, 4, cache) == first
    assert read[0] == (1, 1)


def test_a_text_beyond_the_context_is_the_one_without_a_cache(model: LanguageModel) -> None:
    cache = PromptCache(model)
    for prompt in (PROMPT, PROMPT * 4, PROMPT * 9, PROMPT * 4):
        assert greedy(model, prompt, 30, cache) == greedy(model, prompt, 30)
        assert len(cache.ids) == cache.caches[0].length <= CONFIG.context_length


def test_a_closed_generation_leaves_a_cache_that_can_be_used(model: LanguageModel) -> None:
    cache = PromptCache(model)
    tokens = generate(model, PROMPT, max_new_tokens=9, temperature=0, prompt_cache=cache)
    new = [next(tokens) for _ in range(3)]
    tokens.close()  # type: ignore[attr-defined]  # a generator, though an Iterator by contract
    assert cache.ids == [*PROMPT, *new[:2]]
    assert greedy(model, [*PROMPT, *new], 4, cache) == greedy(model, [*PROMPT, *new], 4)


def test_an_error_inside_a_forward_empties_the_cache(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PromptCache(model)
    greedy(model, PROMPT, 2, cache)

    def interrupted(*_: Any) -> None:
        cache.caches[0].length += 1  # of the first block alone
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        greedy(model, [*PROMPT, 9, 9], 2, cache)
    assert cache.ids == []
    assert {held.length for held in cache.caches} == {0}


def test_equal_prompts_are_read_once(model: LanguageModel, read: list[tuple[int, int]]) -> None:
    generator = TextGenerator(model, CharTokenizer.train("abcdefghijklmnopqrstuvw"))
    texts = ["abc", "defgh", "abc", "abc"]
    rngs = [np.random.default_rng(seed) for seed in range(4)]
    together = generator.complete(texts, max_new_tokens=30, rngs=rngs)
    assert read[0] == (2, 5)
    assert read[1] == (4, 1)
    for seed, (text, completion) in enumerate(zip(texts, together, strict=True)):
        alone = "".join(generator.stream(text, max_new_tokens=30, rng=np.random.default_rng(seed)))
        assert completion.text == alone


def test_a_cache_is_for_one_prompt(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="a prompt cache is for one prompt, not for 2"):
        DecodingBatch(model, [PROMPT, PROMPT], prompt_cache=PromptCache(model))


def test_no_new_tokens_leave_the_cache_as_it_is(model: LanguageModel) -> None:
    cache = PromptCache(model)
    new = greedy(model, PROMPT, 2, cache)
    assert greedy(model, [*PROMPT, *new], 0, cache) == []
    assert cache.ids == [*PROMPT, *new[:1]]
