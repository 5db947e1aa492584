"""
Attention by hand
=================

A network as before has one input for each number and cannot look anything up. Attention can: every position asks a
question, and gathers what those positions hold whose keys answer it.

.. code-block:: text

   attention(Q, K, V) = softmax(Q Kᵀ / √D) V
"""

# %%
# Something to look up
# --------------------
#
# Each example is a small telephone book: eight names with a number each, in any order, and then one of the names again.
# The answer is its number. Names and numbers are drawn anew in each example, so nothing can be learned by heart: the only
# way to answer is to look.

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
    """Return names and numbers (B, T), the names asked for and the answers (B,)."""
    every_name = np.tile(np.arange(NAMES), (count, 1))
    names = rng.permuted(every_name, axis=1)[:, :PAIRS]
    numbers = rng.integers(0, NUMBERS, (count, PAIRS))
    asked = rng.integers(0, PAIRS, count)
    rows = np.arange(count)
    return names, numbers, names[rows, asked], numbers[rows, asked]


# %%
# One head
# --------
#
# A name and a number are learned vectors, their *embeddings*. Three matrices turn the vector at each position into a
# query, a key and a value.


def parameter(*shape: int) -> Tensor:
    """Return a parameter with small random values."""
    values = rng.normal(0, 1 / math.sqrt(shape[0]), shape)
    return Tensor(values, requires_grad=True, dtype=np.float32)


name_vectors, number_vectors = parameter(NAMES, C), parameter(NUMBERS, C)
to_query, to_key, to_value = parameter(C, D), parameter(C, D), parameter(C, D)
to_answer = parameter(D, NUMBERS)


def head(names: Ids, numbers: Ids, asked: Ids) -> tuple[Tensor, Tensor]:
    """Return logits of the answer (B, V) and where the head looked (B, 1, T)."""
    book = name_vectors[names] + number_vectors[numbers]  # (B, T, C)
    query = (name_vectors[asked] @ to_query).reshape(-1, 1, D)  # (B, 1, D)
    key, value = book @ to_key, book @ to_value  # (B, T, D)
    scores = query @ key.swapaxes(1, 2) / math.sqrt(D)  # (B, 1, T)
    weights = softmax(scores)  # (B, 1, T), each row adds up to 1
    gathered = (weights @ value).reshape(-1, D)  # (B, D)
    return gathered @ to_answer, weights


# %%
# The softmax turns scores into weights that add up to one, and the division by the root of D keeps the scores in a range
# where the softmax still has a slope. Before any learning the head looks everywhere and knows nothing.

names, numbers, asked, answers = books(1000)


def examine() -> NDArray[np.float32]:
    """Print how many answers are right, and return where the head looked, (B, T)."""
    with no_grad():
        logits, weights = head(names, numbers, asked)
    right = logits.numpy().argmax(axis=1) == answers
    print(f"{right.mean():.0%} of the answers are right")
    return weights.numpy()[:, 0]


untrained = examine()

# %%
# Learning to look
# ----------------
#
# The loss is the *cross-entropy*: minus the logarithm of the probability that the right answer got.

parameters = [name_vectors, number_vectors, to_query, to_key, to_value, to_answer]
optimizer = AdamW(parameters, lr=0.01, weight_decay=0.0)
losses = []
for _ in range(400):
    *question, right_answers = books(B)
    loss = -log_softmax(head(*question)[0])[np.arange(B), right_answers].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

trained = examine()

# %%
# Where does it look? Each row below is one example. The cross marks the position of the name that was asked for.

fig, axes = plt.subplots(1, 3, figsize=(10, 4), layout="constrained")
axes[0].plot(losses)
axes[0].set(xlabel="step", ylabel="loss in nats")
place = (names == asked[:, None]).argmax(axis=1)
for axis, weights in zip(axes[1:], (untrained, trained)):
    axis.imshow(weights[:16], vmin=0, vmax=1, cmap="Blues")
    axis.scatter(place[:16], range(16), marker="x", color="tab:orange")
    axis.set(xlabel="position in the book", ylabel="example")
axes[1].set_title("before")
axes[2].set_title("after learning")
plt.show()

# %%
# The head has found out on its own that a query should match the key of the same name. A Transformer has many such
# heads side by side, in layers. In a language model each position is at once book and question, and sees only what came
# before it: :class:`axone.nn.Head` is that head, and :class:`axone.nn.MultiHeadAttention` computes many of them with one
# product for all queries, keys and values.
