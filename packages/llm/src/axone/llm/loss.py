"""Losses of language models, and the model to beat: counted pairs of tokens."""

import math

import numpy as np

from axone.autograd import Tensor
from axone.llm.model import LanguageModel
from axone.llm.token_file import Ids
from axone.nn.functional import cross_entropy

__all__ = ["bigram_loss", "bits_per_byte", "cross_entropy", "next_token_loss"]


def next_token_loss(model: LanguageModel, inputs: Ids, targets: Ids) -> Tensor:
    """Return the mean loss of a model on a batch, in nats a token.

    Parameters
    ----------
    model : LanguageModel
    inputs, targets : ndarray of int, shape (B, T)

    Returns
    -------
    Tensor, shape ()
    """
    return cross_entropy(model(inputs), targets)


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
        V; the counts take ``8 V^2`` bytes.

    Returns
    -------
    float
        The mean over the validation tokens, in nats.
    """
    pairs = train[:-1].astype(np.int64) * vocab_size + train[1:]
    counts = np.bincount(pairs, minlength=vocab_size**2).reshape(vocab_size, vocab_size) + 1.0
    log_probabilities = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-log_probabilities[validation[:-1], validation[1:]].mean())
