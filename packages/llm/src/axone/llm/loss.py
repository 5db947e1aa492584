"""Losses of language models: next-token loss, bits per byte, and the bigram baseline."""

import math

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.llm.data.training_data import IGNORED, Batch, MaskedBatch
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn.functional import cross_entropy, linear, linear_cross_entropy

__all__ = ["batch_loss", "bigram_loss", "bits_per_byte", "cross_entropy", "next_token_loss"]

_MAX_LOGITS = 1 << 25  # 128 MB in float32: up to here all logits are held at once, which is a little faster
_PAIRS_PER_CHUNK = 1 << 24


def next_token_loss(model: LanguageModel, inputs: Ids, targets: Ids) -> Tensor:
    """Return the mean loss of a model on a batch, in nats per token.

    The logits of a large vocabulary would take more memory than the rest of the training: they are computed in chunks.

    Parameters
    ----------
    model : LanguageModel
    inputs, targets : ndarray of int, shape (B, T)

    Returns
    -------
    Tensor, shape ()
    """
    return output_loss(model, model.hidden(inputs), targets)


def output_loss(model: LanguageModel, states: Tensor, targets: Ids) -> Tensor:
    """Return the mean loss of the output layer on its inputs, in nats per token.

    Parameters
    ----------
    model : LanguageModel
    states : Tensor, shape (..., C)
    targets : ndarray of int, shape (...)

    Returns
    -------
    Tensor, shape ()
    """
    if targets.size * model.config.vocab_size <= _MAX_LOGITS:
        return cross_entropy(linear(states, model.output_weight), targets)
    return linear_cross_entropy(states, model.output_weight, targets)


def batch_loss(model: LanguageModel, batch: Batch | MaskedBatch) -> Tensor:
    """Return the mean loss of a model over the targets of a batch, in nats per token.

    The output layer is computed where the loss needs it, and nowhere else: it is a fifth of the work of a small model with
    a large vocabulary, and of chat data most positions have no loss.

    Parameters
    ----------
    model : LanguageModel
    batch : Batch or MaskedBatch

    Returns
    -------
    Tensor, shape ()
    """
    return output_loss(model, *states_and_targets(model, batch))


def states_and_targets(model: LanguageModel, batch: Batch | MaskedBatch) -> tuple[Tensor, Ids]:
    """Return the inputs of the output layer where a batch has targets, and those targets.

    Parameters
    ----------
    model : LanguageModel
    batch : Batch or MaskedBatch

    Returns
    -------
    states : Tensor, shape (..., C)
    targets : ndarray of int, shape (...)
    """
    if not isinstance(batch, MaskedBatch):
        inputs, targets = batch
        return model.hidden(inputs), targets
    states = model.hidden(batch.inputs, mask=batch.mask, positions=batch.positions, prefix=batch.prefix)  # (B, T, C)
    targets = batch.targets.reshape(-1)  # (B T,)
    counted = np.flatnonzero(targets != IGNORED)  # (N,)
    return states.reshape(-1, states.shape[-1])[counted], targets[counted]


def bits_per_byte(loss: float, tokens: int, num_bytes: int) -> float:
    """Convert a loss per token to bits per byte, which compare across tokenizers.

    Parameters
    ----------
    loss : float
        Mean over tokens, in nats.
    tokens, num_bytes : int
        Length of the text in tokens and in bytes of UTF-8.

    Returns
    -------
    float
        Bits per byte.
    """
    return loss / math.log(2) * tokens / num_bytes


def bigram_loss(train: Ids, validation: Ids, vocab_size: int) -> float:
    """Return the loss of the bigram baseline, which predicts each token from the previous one by counts of pairs.

    Each count is increased by 1, so that no pair has a probability of 0.

    Parameters
    ----------
    train, validation : ndarray of int, shape (N,)
    vocab_size : int
        V. The counts take ``24 V^2`` bytes.

    Returns
    -------
    float
        Mean over the validation tokens, in nats.
    """
    counts = _count_pairs(train, vocab_size) + 1.0
    log_probabilities = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-(_count_pairs(validation, vocab_size) * log_probabilities).sum() / (len(validation) - 1))


def _count_pairs(ids: Ids, vocab_size: int) -> NDArray[np.int64]:
    """Return the counts of pairs of tokens, of shape (V, V)."""
    counts = np.zeros(vocab_size**2, np.int64)
    for start in range(0, len(ids) - 1, _PAIRS_PER_CHUNK):
        part = ids[start : start + _PAIRS_PER_CHUNK + 1]
        counts += np.bincount(part[:-1].astype(np.int64) * vocab_size + part[1:], minlength=len(counts))
    return counts.reshape(vocab_size, vocab_size)
