"""Evaluation of a model on a text: perplexity with a sliding window.

Every token but the first is predicted once. A window gives a token up to a whole context before it; with a stride below
the window's length, tokens are predicted from more context, at the price of computing positions several times [1]_.

References
----------
.. [1] Hugging Face, "Perplexity of fixed-length models", https://huggingface.co/docs/transformers/perplexity
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from axone.autograd import no_grad
from axone.llm.data.training_data import TrainingData
from axone.llm.loss import batch_loss
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn.functional import linear_cross_entropy

_LONGEST_WINDOW = 1024  # tokens, unless one is given: attention costs its square


def sliding_loss(
    model: LanguageModel,
    tokens: Ids,
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> float:
    """Return the mean loss of a model over a text, in nats per token.

    Parameters
    ----------
    model : LanguageModel
    tokens : ndarray of int, shape (N,)
        N is at least 2; the first token is not predicted.
    window : int, optional
        Tokens that the model reads at once, by default its context length, at most 1,024.
    stride : int, optional
        Tokens by which the window moves on, from 1 to `window`, by default half of it.
    progress : callable, optional
        Called after each window with the number of tokens predicted so far.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are fewer than two tokens, or `window` or `stride` is out of range.
    """
    tokens = np.asarray(tokens)
    longest = model.config.context_length
    window = min(longest, _LONGEST_WINDOW) if window is None else window
    stride = max(window // 2, 1) if stride is None else stride
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens must have shape (N,) with N of at least 2, and they have {tokens.shape}")
    if not 1 <= window <= longest:
        raise ValueError(f"window ({window}) must be from 1 to the model's context length ({longest})")
    if not 1 <= stride <= window:
        raise ValueError(f"stride ({stride}) must be from 1 to window ({window})")
    was_training, total, done = model.training, 0.0, 0
    model.eval()
    try:
        with no_grad():
            while done < len(tokens) - 1:
                end = min(window if done == 0 else done + stride, len(tokens) - 1)
                start = max(end - window, 0)
                states = model.hidden(tokens[None, start:end])[:, done - start :]  # (1, R, C)
                targets = tokens[None, done + 1 : end + 1]
                total += float(linear_cross_entropy(states, model.output_weight, targets).item()) * (end - done)
                done = end
                if progress is not None:
                    progress(done)
    finally:
        model.train(was_training)
    return total / done


def perplexity(model: LanguageModel, tokens: Ids, *, window: int | None = None, stride: int | None = None) -> float:
    """Return the perplexity of a model on a text: ``exp`` of its mean loss.

    Parameters
    ----------
    model, tokens, window, stride
        As in `sliding_loss`.

    Returns
    -------
    float
        From 1, where every token is certain.

    Raises
    ------
    ValueError
        As `sliding_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, perplexity
    >>> config = LanguageModelConfig(
    ...     vocab_size=8, context_length=16, num_layers=1, num_heads=2, embed_dim=8
    ... )
    >>> model = LanguageModel(config)
    >>> for parameter in model.parameters():
    ...     parameter.data[...] = 0
    >>> tokens = np.arange(40) % 8
    >>> round(perplexity(model, tokens), 3)  # every token is as likely as any other
    8.0
    """
    return math.exp(sliding_loss(model, tokens, window=window, stride=stride))


def conversation_loss(model: LanguageModel, data: TrainingData, *, batch_size: int = 8) -> float:
    """Return the mean loss of a model over the learned tokens of conversations, in nats per token.

    Parameters
    ----------
    model : LanguageModel
    data : TrainingData
        Such as `Conversations`.
    batch_size : int, default 8
        Conversations that are computed together.

    Returns
    -------
    float
    """
    context = model.config.context_length
    indices = data.sequence_starts(context)
    was_training, total = model.training, 0.0
    model.eval()
    try:
        with no_grad():
            for first in range(0, len(indices), batch_size):
                part = indices[first : first + batch_size]
                total += batch_loss(model, data.read(part, context)).item() * data.count_targets(part, context)
    finally:
        model.train(was_training)
    return total / data.count_targets(indices, context)
