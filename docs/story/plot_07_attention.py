"""
Attention by hand
=================

A multi-layer perceptron has fixed inputs and cannot look anything up. Attention can: each position compares its query
with the keys of all positions, and averages their values with the resulting weights.

.. code-block:: text

   attention(Q, K, V) = softmax(Q Kᵀ / √D) V
"""

# %%
# Task
# ----
#
# Each example is a small telephone book: eight names with a number each, in any order, and then one of the names again.
# The answer is its number. Names and numbers are random in each example, so the model cannot memorize them: it has to
# look them up.

import math
from typing import TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, log_softmax, no_grad, softmax
from axone.autograd.optim import AdamW

NAMES, NUMBERS, PAIRS = 16, 10, 8
B, C, D = 128, 32, 16  # examples side by side, channels, width of the head
rng = np.random.default_rng(0)
Ids: TypeAlias = NDArray[np.int64]


def books(count: int) -> tuple[Ids, Ids, Ids, Ids]:
    """Return names and numbers (B, T), the queried names and the answers (B,)."""
    every_name = np.tile(np.arange(NAMES), (count, 1))
    names = rng.permuted(every_name, axis=1)[:, :PAIRS]
    numbers = rng.integers(0, NUMBERS, (count, PAIRS))
    queried = rng.integers(0, PAIRS, count)
    rows = np.arange(count)
    return names, numbers, names[rows, queried], numbers[rows, queried]


# %%
# One head
# --------
#
# Each name and each number has a learned vector, its *embedding*. Three matrices project the vector at each position to
# a query, a key and a value.


def parameter(*shape: int) -> Tensor:
    """Return a parameter with small random values."""
    values = rng.normal(0, 1 / math.sqrt(shape[0]), shape)
    return Tensor(values, requires_grad=True, dtype=np.float32)


name_vectors, number_vectors = parameter(NAMES, C), parameter(NUMBERS, C)
to_query, to_key, to_value = parameter(C, D), parameter(C, D), parameter(C, D)
to_answer = parameter(D, NUMBERS)


def head(names: Ids, numbers: Ids, queried: Ids) -> tuple[Tensor, Tensor]:
    """Return logits of the answer (B, V) and attention weights (B, 1, T)."""
    book = name_vectors[names] + number_vectors[numbers]  # (B, T, C)
    query = (name_vectors[queried] @ to_query).reshape(-1, 1, D)  # (B, 1, D)
    key, value = book @ to_key, book @ to_value  # (B, T, D)
    scores = query @ key.swapaxes(1, 2) / math.sqrt(D)  # (B, 1, T)
    weights = softmax(scores)  # (B, 1, T), each row adds up to 1
    gathered = (weights @ value).reshape(-1, D)  # (B, D)
    return gathered @ to_answer, weights


# %%
# The softmax turns scores into weights that add up to one. The division by the square root of D keeps the scores in a
# range in which the softmax has a slope. Before training, the head attends to all positions, and its answers are
# random.

names, numbers, queried, answers = books(1000)


def examine() -> NDArray[np.float32]:
    """Print the share of correct answers, and return the attention weights (B, T)."""
    with no_grad():
        logits, weights = head(names, numbers, queried)
    correct = logits.numpy().argmax(axis=1) == answers
    print(f"{correct.mean():.0%} of the answers are correct")
    return weights.numpy()[:, 0]


untrained = examine()

# %%
# Training
# --------
#
# The loss is the *cross-entropy*: minus the logarithm of the probability of the correct answer.

parameters = [
    name_vectors,
    number_vectors,
    to_query,
    to_key,
    to_value,
    to_answer,
]
optimizer = AdamW(parameters, lr=0.01, weight_decay=0.0)
losses = []
for _ in range(400):
    *question, targets = books(B)
    loss = -log_softmax(head(*question)[0])[np.arange(B), targets].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

trained = examine()

# %%
# Each row below is one example, each column a position of its telephone book. The cross marks the queried name.

fig, axes = plt.subplots(1, 3, figsize=(10, 4), layout="constrained")
axes[0].plot(losses)
axes[0].set(xlabel="step", ylabel="loss in nats")
position = (names == queried[:, None]).argmax(axis=1)
for axis, weights in zip(axes[1:], (untrained, trained)):
    axis.imshow(weights[:16], vmin=0, vmax=1, cmap="Blues")
    axis.scatter(position[:16], range(16), marker="x", color="tab:orange")
    axis.set(xlabel="position in the book", ylabel="example")
axes[1].set_title("before training")
axes[2].set_title("after training")
plt.show()

# %%
# The head has learned to match a query with the key of the same name. A Transformer has many such heads in each of its
# layers. In a language model each position has a query, a key and a value, and attends only to itself and to earlier
# positions: :class:`axone.nn.Head` is that head, and :class:`axone.nn.MultiHeadAttention` computes many heads with one
# product for all queries, keys and values.
