"""Generation: one token after the other, from a model and a prompt."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from operator import index

import numpy as np

from axone.llm.generation.batch import DecodingBatch, check_prompt
from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.protocol import GenerativeModel
from axone.llm.generation.sampling import SamplingConfig
from axone.llm.generation.speculation import DraftChoice, Speculation, check_draft
from axone.llm.generation.token_loop import Row, token_loop
from axone.llm.runtime.settings import adapted_memory


def generate(
    model: GenerativeModel,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    sampling: SamplingConfig | None = None,
    stop_ids: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    prompt_cache: PromptCache | None = None,
    draft: DraftChoice = None,
) -> Iterator[int]:
    """Yield new tokens, one at a time.

    Each costs one position, because a cache holds the keys and values of earlier ones. When the context is full, its
    last half is read again and the rest is forgotten. A large model may be decoded by several processes: they are forked
    with the second token, and end with the text. The weights must not change meanwhile.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    prompt_ids : sequence of int
        At least one; only the last `context_length` are read.
    max_new_tokens : int
        The most tokens to yield.
    temperature, top_k, top_p, min_p, repetition_penalty
        As in `SamplingConfig`. By default all tokens may be drawn: Hugging Face's default is ``top_k=50``.
    sampling : SamplingConfig, optional
        These options as a whole, instead of one by one.
    stop_ids : sequence of int, optional
        Tokens that end the text, and are not yielded: by default the model's `eos_ids`. ``()`` ends it nowhere.
    rng : numpy.random.Generator, optional
        Draws the tokens; None makes a new one.
    workers : int, optional
        The most threads or processes that compute at once, besides the threads of BLAS: by default one per core for a
        large model, and one for a small model. 1 never forks.
    prompt_cache : PromptCache, optional
        Tokens that it holds are not read again; afterwards it holds those of this text.
    draft : "prompt" or Draft, optional
        Guesses the next tokens, which are verified together: ``"prompt"`` from the longest match in prompt and text so far,
        a `Draft` from a corpus. The text is the same, and faster where guesses are often right, such as in a summary.

    Yields
    ------
    int

    Raises
    ------
    TypeError
        If the prompt holds anything but integers, or an option has another type.
    ValueError
        If the prompt is empty or holds an unknown id, or an option is out of range.

    Notes
    -----
    Drafts change no bit of the logits where forked processes decode. Otherwise BLAS may round the logits of several
    positions in another way: then a token can differ if two logits agree to about six digits.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, generate
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=1, num_heads=2, embed_dim=16
    ... )
    >>> model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    >>> len(list(generate(model, [1, 2, 3], max_new_tokens=5, top_k=10)))
    5
    """
    options = SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    if sampling is not None and options != SamplingConfig():
        raise TypeError("sampling and single options of it must not be given together: set them in SamplingConfig")
    prompt = check_prompt(prompt_ids, model.config.vocab_size)
    stops = stop_set(model, stop_ids)
    check_draft(draft)
    return stream_tokens(
        model,
        prompt,
        max_count(max_new_tokens),
        sampling or options,
        stops,
        np.random.default_rng(rng),
        workers,
        prompt_cache=prompt_cache,
        draft=draft,
    )


def stream_tokens(
    model: GenerativeModel,
    prompt: list[int],
    max_new_tokens: int,
    sampling: SamplingConfig,
    stop_ids: frozenset[int],
    rng: np.random.Generator,
    workers: int | None,
    vocab_size: int | None = None,
    prompt_cache: PromptCache | None = None,
    draft: DraftChoice = None,
) -> Generator[int, None, None]:
    """Yield new tokens; those from `vocab_size` on are never drawn."""
    speculation = Speculation.of(draft, prompt, vocab_size or model.config.vocab_size)
    with DecodingBatch(model, [prompt], workers=workers, prompt_cache=prompt_cache) as batch, adapted_memory():
        for chosen in token_loop(batch, [Row(rng)], sampling, stop_ids, max_new_tokens, vocab_size, speculation):
            for _, token, _ in chosen:
                yield token


def stop_set(model: GenerativeModel, stop_ids: Sequence[int] | None) -> frozenset[int]:
    """Return the ids that end a text: by default those of the model."""
    return frozenset(map(index, model.eos_ids if stop_ids is None else stop_ids))


def max_count(max_new_tokens: int) -> int:
    """Return a number of tokens that is at least 0.

    Raises
    ------
    ValueError
        If it is negative.
    """
    if index(max_new_tokens) < 0:
        raise ValueError(f"max_new_tokens ({max_new_tokens}) must be at least 0")
    return index(max_new_tokens)
