"""Losses of language models: next-token loss, bits per byte, and the bigram baseline."""

import math

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, empty_like, is_grad_enabled, needs_grad, record
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn.extend import exp_rows, matmul
from axone.nn.functional import cross_entropy

__all__ = ["bigram_loss", "bits_per_byte", "cross_entropy", "linear_cross_entropy", "next_token_loss"]

_MAX_LOGITS = 1 << 25  # 128 MB in float32: up to here all logits are held at once, which is a little faster
_MAX_CHUNK = 1 << 24  # logits of a chunk
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
    if targets.size * model.config.vocab_size <= _MAX_LOGITS:
        return cross_entropy(model(inputs), targets)
    return linear_cross_entropy(model.hidden(inputs), model.output_weight, targets)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Ids, *, rows: int | None = None) -> Tensor:
    """Return ``cross_entropy(linear(x, weight), targets)``, with the logits computed in chunks of rows.

    With N targets, the gradient of a row of logits is ``(softmax(x weight^T) - one_hot(target)) / N``. The forward
    computes it chunk by chunk, and adds its products to the gradients of x and of the weight.

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (V, C)
    targets : ndarray of int, shape (...)
        In ``[0, V)``.
    rows : int, optional
        Rows of a chunk of logits, by default as many as fit into 64 MB in float32.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        If the shapes do not match.
    IndexError
        If a target is out of range.
    """
    V, C = weight.shape
    if x.shape != (*targets.shape, C):
        raise ValueError(
            f"x of shape {x.shape} and targets of shape {targets.shape} must have shapes (..., {C}) and (...)"
        )
    flat, w, chosen = x.data.reshape(-1, C), weight.data, targets.reshape(-1)  # (N, C), (V, C), (N,)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= V):
        raise IndexError(f"targets ({chosen.min()} to {chosen.max()}) must be from 0 to {V - 1}")
    step = max(_MAX_CHUNK // V, 1) if rows is None else rows
    recorded = is_grad_enabled() and (needs_grad(x) or needs_grad(weight))
    dx, dw = (empty_like(flat), empty_like(w)) if recorded else (flat, w)
    if recorded:
        dw.fill(0)
    total = 0.0
    for part in (slice(start, start + step) for start in range(0, len(flat), step)):
        x_part = flat[part]  # (R, C)
        logits = matmul(x_part, w.T, out=empty((len(x_part), V), w.dtype))  # (R, V)
        picked = logits[np.arange(len(logits)), chosen[part]].astype(np.float64)  # (R,)
        p, sums, shift = exp_rows(logits)
        total += float((np.log(sums, dtype=np.float64) + shift - picked).sum())
        if recorded:
            p *= (1 / (sums * len(flat)))[:, None]
            p[np.arange(len(p)), chosen[part]] -= 1 / len(flat)
            matmul(p, w, out=dx[part])
            dw += matmul(p.T, x_part, out=empty_like(w))

    def vjp(g: Array) -> tuple[Array, Array]:
        if g != 1:
            np.multiply(dx, g, out=dx)
            np.multiply(dw, g, out=dw)
        return dx.reshape(x_shape), dw

    x_shape = x.shape
    return record("linear_cross_entropy", np.asarray(total / max(len(flat), 1), dtype=w.dtype), (x, weight), vjp)


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
