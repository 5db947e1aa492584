"""Losses of language models, and the model to beat: counted pairs of tokens."""

import math

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, empty_like, needs_grad, record
from axone.autograd.mode import mode
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn.extend import exp_rows, matmul
from axone.nn.functional import cross_entropy

__all__ = ["bigram_loss", "bits_per_byte", "cross_entropy", "linear_cross_entropy", "next_token_loss"]

_MOST_LOGITS = 1 << 25  # numbers: up to here all are held at once, which is a little faster
_LOGITS_AT_ONCE = 1 << 24  # numbers: else these many
_PAIRS_AT_ONCE = 1 << 24


def next_token_loss(model: LanguageModel, inputs: Ids, targets: Ids) -> Tensor:
    """Return the mean loss of a model on a batch, in nats a token.

    Over a large vocabulary the logits of all tokens together would take more memory than all else: they are then
    computed some rows at a time.

    Parameters
    ----------
    model : LanguageModel
    inputs, targets : ndarray of int, shape (B, T)

    Returns
    -------
    Tensor, shape ()
    """
    if targets.size * model.config.vocab_size <= _MOST_LOGITS:
        return cross_entropy(model(inputs), targets)
    return linear_cross_entropy(model.hidden(inputs), model.output_weight, targets)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Ids, *, rows: int | None = None) -> Tensor:
    """Return ``cross_entropy(linear(x, weight), targets)`` without ever holding all logits.

    With N targets, the gradient of a row of logits is ``(softmax(x weight^T) - one_hot(target)) / N``. It is multiplied
    on to x and the weight as soon as it is known, in the forward, and then let go.

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (V, C)
    targets : ndarray of int, shape (...)
        Each in ``[0, V)``.
    rows : int, optional
        How many rows of logits to hold at once, by default as many as 64 MB take in float32.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        If the shapes do not fit.
    IndexError
        If a target is out of its range.
    """
    V, C = weight.shape
    if x.shape != (*targets.shape, C):
        raise ValueError(
            f"x must have shape (..., {C}) and targets shape (...), and they have {x.shape}, {targets.shape}"
        )
    flat, w, chosen = x.data.reshape(-1, C), weight.data, targets.reshape(-1)  # (N, C), (V, C), (N,)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= V):
        raise IndexError(f"targets must be from 0 to {V - 1}, and these go from {chosen.min()} to {chosen.max()}")
    step = max(_LOGITS_AT_ONCE // V, 1) if rows is None else rows
    recorded = mode.recording and (needs_grad(x) or needs_grad(weight))
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
    """Return a loss in a unit that does not depend on the tokenizer.

    Parameters
    ----------
    loss : float
        The mean over tokens, in nats.
    tokens, num_bytes : int
        How long the same text is in tokens and in bytes of UTF-8.

    Returns
    -------
    float
        Bits per byte.
    """
    return loss / math.log(2) * tokens / num_bytes


def bigram_loss(train: Ids, validation: Ids, vocab_size: int) -> float:
    """Return the loss of a model that knows only how often each token follows another.

    One is added to every count, so that a pair not seen in training has a probability too.

    Parameters
    ----------
    train, validation : ndarray of int, shape (N,)
    vocab_size : int
        V; the counts take ``24 V^2`` bytes.

    Returns
    -------
    float
        The mean over the validation tokens, in nats.
    """
    counts = _count_pairs(train, vocab_size) + 1.0
    log_probabilities = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-(_count_pairs(validation, vocab_size) * log_probabilities).sum() / (len(validation) - 1))


def _count_pairs(ids: Ids, vocab_size: int) -> NDArray[np.int64]:
    """Return how often each token follows each, as an array of shape (V, V)."""
    counts = np.zeros(vocab_size**2, np.int64)
    for start in range(0, len(ids) - 1, _PAIRS_AT_ONCE):
        part = ids[start : start + _PAIRS_AT_ONCE + 1]
        counts += np.bincount(part[:-1].astype(np.int64) * vocab_size + part[1:], minlength=len(counts))
    return counts.reshape(vocab_size, vocab_size)
