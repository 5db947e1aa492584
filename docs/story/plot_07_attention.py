r"""
7. Self-attention
=================

"The owl woke, and it flew away." To understand "it", a reader looks back at the words
before, and at some of them more than at others. *Attention* is this look as a
formula: each position takes a weighted average of the positions that it finds relevant.
"""

# %%
# A look back
# -----------
#
# The rows of a map are the words that look, the columns the words that are looked at.
# The darker a cell, the larger the weight. Each row adds up to 1. The numbers of this
# first map are invented; those at the end of the page are learned.

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from axone.autograd import Tensor, concatenate, no_grad, softmax, where
from axone.autograd.optim import AdamW
from axone.nn import Embedding, Head, Linear, Module, MultiHeadAttention
from axone.nn.functional import cross_entropy


def show_map(
    axis: Axes, weights: np.ndarray, labels: list[str], title: str = ""
) -> None:
    """Draw attention weights (T, T) with a label for each position."""
    axis.imshow(weights, vmin=0, vmax=1, cmap="Blues")
    axis.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_title(title)


words = ["the", "owl", "woke", "and", "it"]
invented = np.array(
    [
        [1, 0, 0, 0, 0],
        [0.4, 0.6, 0, 0, 0],
        [0.1, 0.7, 0.2, 0, 0],
        [0.1, 0.3, 0.5, 0.1, 0],
        [0.05, 0.75, 0.1, 0.05, 0.05],
    ]
)  # (5, 5)
fig, axis = plt.subplots(figsize=(4.5, 4), layout="constrained")
show_map(axis, invented, words)
axis.set(xlabel="is looked at", ylabel="looks")
plt.show()

# %%
# Query, key, value
# -----------------
#
# Where do the weights come from? Each position computes three vectors from its own
# vector, with three matrices that are learned:
#
# * the *query* says what this position looks for,
# * the *key* says what this position has to offer,
# * the *value* is what it hands over if it is chosen.
#
# A query fits a key if the product of their numbers, added up, is large. By hand, with
# three positions and two numbers each:

query = np.array([1.0, 2.0])  # (2,): the last position looks
keys = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])  # (3, 2)
values = np.array([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])  # (3, 2)

scores = keys @ query  # (3,): 2 * 1 + 0 * 2 = 2, then 4, then 3
weights = np.exp(scores) / np.exp(scores).sum()  # (3,): softmax
out = weights @ values  # (2,): the weighted average of the values
print("scores ", scores)
print("weights", weights.round(2), "sum", weights.sum())
print("output ", out.round(2))

# %%
# The second key fits best, gets two thirds of the weight, and its value dominates the
# output. The softmax of page 6 makes weights of the scores. For all positions at once,
# with the queries as rows of :math:`Q`, and keys and values as rows of :math:`K` and
# :math:`V`:
#
# .. math::
#
#    \mathrm{attention}(Q, K, V) =
#    \mathrm{softmax}\left(\frac{Q K^{T}}{\sqrt{D}}\right) V
#
# :math:`D` is the length of a query. Why divide by its square root? The score is a sum
# of :math:`D` products. About half of them are negative, so most of the sum cancels:
# for random numbers its typical size is not :math:`D` but :math:`\sqrt{D}`. Large
# scores make the softmax choose one position alone. Then its slope is almost zero, and
# nothing can be learned. Divided by the root, the scores have the same size for every
# D:

rng = np.random.default_rng(0)
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", sharey=True)
for axis, divided in zip(axes, (False, True)):
    for D, marker in [(4, "o"), (64, "s"), (1024, "^")]:
        query, keys = rng.normal(size=D), rng.normal(size=(8, D))  # (D,), (8, D)
        scores = keys @ query / (math.sqrt(D) if divided else 1.0)  # (8,)
        weights = softmax(Tensor(scores)).numpy()  # (8,)
        axis.plot(np.sort(weights)[::-1], marker + "-", label=f"D = {D}")
    axis.set(title="divided" if divided else "not divided", xlabel="rank of the key")
axes[0].set_ylabel("weight")
axes[1].legend()
plt.show()

# %%
# Mask
# ----
#
# A language model predicts the next token. In training it sees whole sentences, so it
# must not look ahead: position 3 may look at 0, 1, 2 and 3, not at 4. Set the scores of
# all later positions to minus infinity: :math:`e^{-\infty} = 0`, so their weights are
# zero. This is the *causal mask*, and the reason for the empty triangle of the first
# map. When queries, keys and values come from the same sequence, it is
# *self*-attention.

B, T, C, D = 1, 5, 8, 4  # batch, time (positions), channels, width of the head
head = Head(C, D, rng=rng)
x = Tensor(rng.normal(size=(B, T, C)), dtype=np.float32)  # (B, T, C)

q, k, v = head.query(x), head.key(x), head.value(x)  # (B, T, D) each
scores_all = q @ k.swapaxes(1, 2) / math.sqrt(D)  # (B, T, T)
earlier = np.tri(T, dtype=bool)  # (T, T): True on and below the diagonal
masked = where(earlier, scores_all, -np.inf)  # (B, T, T)
weights_all = softmax(masked)  # (B, T, T): each row adds up to 1
ours = weights_all @ v  # (B, T, D)

print(weights_all.numpy()[0].round(2))
print("as axone.nn.Head:", np.allclose(ours.numpy(), head(x).numpy(), atol=1e-6))

# %%
# These six lines are the whole of :class:`~axone.nn.Head`. Does the mask work? Change
# the last position, and only the last output may change:

changed = x.numpy().copy()  # (B, T, C)
changed[:, -1] += 1.0
difference = np.abs(head(Tensor(changed)).numpy() - head(x).numpy())[0]  # (T, D)
print("largest change at each position:", difference.max(axis=1).round(3))

# %%
# A task
# ------
#
# A small telephone book: eight names with a number each, in any order, and then one of
# the names again. The answer is its number. Names and numbers are different in each
# example, so the model cannot memorize them. It has to look them up.

NAMES, NUMBERS, PAIRS, WIDTH = 16, 10, 8, 32


def books(count: int, asked: int) -> tuple[np.ndarray, ...]:
    """Return names and numbers (B, 8), the asked names and their numbers (B, asked)."""
    every_name = np.tile(np.arange(NAMES), (count, 1))  # (B, 16)
    every_number = np.tile(np.arange(NUMBERS), (count, 1))  # (B, 10)
    names = rng.permuted(every_name, axis=1)[:, :PAIRS]  # (B, 8)
    numbers = rng.permuted(every_number, axis=1)[:, :PAIRS]  # (B, 8)
    places = np.tile(np.arange(PAIRS), (count, 1))  # (B, 8)
    at = rng.permuted(places, axis=1)[:, :asked]  # (B, asked)
    rows = np.arange(count)[:, None]  # (B, 1)
    return names, numbers, names[rows, at], numbers[rows, at]


class PhoneBook(Module):
    """Eight entries and a question: one layer of attention, and one Linear layer."""

    def __init__(self, num_heads: int, asked: int, answers: int) -> None:
        rng = np.random.default_rng(0)
        self.name = Embedding(NAMES, WIDTH, rng=rng)
        self.number = Embedding(NUMBERS, WIDTH, rng=rng)
        self.asked = [Embedding(NAMES, WIDTH, rng=rng) for _ in range(asked)]
        self.attention = MultiHeadAttention(WIDTH, num_heads, head_dim=16, rng=rng)
        self.answer = Linear(WIDTH, answers, rng=rng)

    def __call__(
        self, names: np.ndarray, numbers: np.ndarray, asked: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Return logits (B, answers) and weights (B, H, 9, 9) of H heads."""
        book = self.name(names) + self.number(numbers)  # (B, 8, C)
        question = self.asked[0](asked[:, :1])  # (B, 1, C)
        for i, table in enumerate(self.asked[1:], 1):
            question = question + table(asked[:, i : i + 1])  # (B, 1, C)
        x = concatenate([book, question], axis=1)  # (B, 9, C)
        out, weights = self.attention(x, return_weights=True)  # (B, 9, C)
        return self.answer(out[:, -1]), weights  # only the last position answers


def train(net: PhoneBook, asked: int, steps: int) -> list[float]:
    """Train on random books, and return the losses."""
    optimizer = AdamW(net.parameters(), lr=0.01, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        *question, found = books(64, asked)
        loss = cross_entropy(net(*question)[0], target_of(found))  # ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def target_of(found: np.ndarray) -> np.ndarray:
    """Return the number (B,), or for two numbers whether the first is larger (B,)."""
    return (
        found[:, 0] if found.shape[1] == 1 else (found[:, 0] > found[:, 1]).astype(int)
    )


def correct(net: PhoneBook, asked: int) -> float:
    """Return the share of correct answers on new books."""
    *question, found = books(1000, asked)
    with no_grad():
        logits, _ = net(*question)  # (1000, answers)
    return float((logits.numpy().argmax(axis=1) == target_of(found)).mean())


one = PhoneBook(num_heads=1, asked=1, answers=NUMBERS)
names, numbers, asked, found = books(1, 1)
with no_grad():
    _, before = one(names, numbers, asked)  # (1, 1, 9, 9)
print(f"before training: {correct(one, 1):.0%} of the answers are correct")
losses = train(one, 1, 150)
print(f"after training:  {correct(one, 1):.0%}")

# %%
# A guess is right once in ten times. After training nearly all answers are right,
# because the model looks the number up. See the last row of the maps: before training
# it looks everywhere, after training at the entry of the name in question.

labels = [f"{name}: {number}" for name, number in zip(names[0], numbers[0])]
labels.append(f"{asked[0, 0]}: ?")
with no_grad():
    _, after = one(names, numbers, asked)  # (1, 1, 9, 9)
fig, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
show_map(axes[0], before[0, 0], labels, "before training")
show_map(axes[1], after[0, 0], labels, "after training")
plt.show()

# %%
# The other rows do not matter here, because only the last position answers.
#
# Several heads
# -------------
#
# A harder question: two names are asked. Is the number of the first one larger than
# that of the second? One head averages, so it mixes the two entries, and it cannot say
# which number belongs to which name. Two heads look at two places at once, each with
# its own queries, keys and values. Their outputs are put side by side and mixed by a
# last Linear layer. This is :class:`~axone.nn.MultiHeadAttention`. It has the causal
# mask, too; the last position, which answers, sees all entries.

results = {}
for num_heads in (1, 2):
    net = PhoneBook(num_heads, asked=2, answers=2)
    results[num_heads] = net, train(net, 2, 300)
    print(f"heads: {num_heads}, {correct(net, 2):.0%} of the answers are correct")

# %%
# Half of the answers would be a guess. Expect about three quarters with one head: it
# can look up the first number, and a large number is probably the larger one. With two
# heads nearly all answers are right: one head finds the first number, the other the
# second, and the last layer compares them. The maps of the two heads, for one example:

names, numbers, asked, found = books(1, 2)
labels = [f"{name}: {number}" for name, number in zip(names[0], numbers[0])]
labels.append(f"{asked[0, 0]} > {asked[0, 1]}?")
with no_grad():
    _, maps = results[2][0](names, numbers, asked)  # (1, 2, 9, 9)
fig, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
for number, axis in enumerate(axes):
    show_map(axis, maps[0, number], labels, f"head {number + 1}")
plt.show()

# %%
# See the last rows: each head has found a task of its own. GPT-2 has 12 heads in each
# of 12 layers.
#
# Exercises
# ---------
#
# **1.** Three positions have the scores 1, 1 and 1 for a query. What are the weights?
# And with the scores 0, 0 and 100?
#
# .. dropdown:: Answer
#
#    One third each: the output is the plain average. With 100 the last weight is
#    practically 1, and the output is the last value.
#
# **2.** ``x`` has the shape (2, 10, 64). What are the shapes of the queries and of the
# weights of one head with D = 16? Of all weights of 4 heads?
#
# .. dropdown:: Answer
#
#    (2, 10, 16) and (2, 10, 10). Four heads have weights of shape (2, 4, 10, 10).
#
# **3.** A text becomes twice as long. By how much does the table of weights grow?
#
# .. dropdown:: Answer
#
#    By a factor of four: every position looks at every earlier one. This is why the length
#    of a model's context is limited.
#
# Attention moves information between positions. To compute with it, and to stack many
# such layers, two additions are needed: :doc:`plot_08_block`.
