r"""
6. Embeddings and positions
===========================

An id is only a name. Therefore each token gets a *vector*, a short list of numbers that
are parameters like all others: its *embedding*. Training moves the vectors of tokens that
are used alike to the same place.
"""

# %%
# A small language
# ----------------
#
# To see this we need a language whose order we know. Its sentences come from two
# patterns, and in this page each word is a token.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from axone.autograd import Tensor, no_grad, softmax, tanh
from axone.autograd.optim import AdamW
from axone.nn import Embedding, Linear, Module, RotaryEmbedding
from axone.nn.functional import cross_entropy

GROUPS = {
    "colours": ["red", "green", "black", "white"],
    "animals": ["cat", "dog", "fox", "owl", "hare"],
    "eating": ["eats", "likes", "finds"],
    "food": ["bread", "soup", "rice", "cheese"],
    "moving": ["walks", "runs", "goes"],
    "places": ["wood", "hill", "river", "field"],
    "others": ["the", "in", "to", "."],
}
words = [word for group in GROUPS.values() for word in group]
id_of = {word: id for id, word in enumerate(words)}
V = len(words)  # 27
rng = np.random.default_rng(0)


def sentence() -> list[str]:
    """Return a sentence of one of the two patterns."""
    colour, animal, eats, food, walks, place, _ = (
        str(rng.choice(group)) for group in GROUPS.values()
    )
    if rng.random() < 0.5:
        return f"the {colour} {animal} {eats} {food} in the {place} .".split()
    return f"the {animal} {walks} to the {place} .".split()


text = [word for _ in range(2000) for word in sentence()]
ids = np.array([id_of[word] for word in text])  # (N,)
print(" ".join(text[:16]))

# %%
# A table of vectors
# ------------------
#
# An :class:`~axone.nn.Embedding` is a table with one row for each token. To look up a
# token is to take its row. Here a row has two numbers, so that it can be drawn as a
# point in a plane. GPT-2 has 768. The network below is a :class:`~axone.nn.Module`, the
# base class that collects the parameters of all layers.
#
# From here on, the comments name shapes by letters: N is the number of examples, V of
# tokens in the vocabulary, C of channels (the numbers of a vector). A batch of
# sequences has the shape (B, T): B sequences of T positions each.

C = 2  # the length of a vector, the number of "channels"


class NextWord(Module):
    """Network that predicts the next word from one word."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embedding = Embedding(V, C, rng=rng)  # weight (V, C)
        self.hidden = Linear(C, 32, rng=rng)
        self.output = Linear(32, V, rng=rng)

    def __call__(self, ids: np.ndarray) -> Tensor:
        """Return a score for each possible next word, (N, V), of ids (N,)."""
        x = self.embedding(ids)  # (N, C)
        return self.output(tanh(self.hidden(x)))  # (N, V)


def show(axis: Axes, vectors: np.ndarray) -> None:
    """Draw the vector (C,) of each word as a point, with the group as colour."""
    for number, (group, members) in enumerate(GROUPS.items()):
        x, y = vectors[[id_of[word] for word in members]].T  # (members,) each
        axis.scatter(x, y, color=f"C{number}", label=group, s=40)
        for word, a, b in zip(members, x, y):
            axis.annotate(word, (a, b), (3, 3), textcoords="offset points", size=9)
    axis.set(xticks=[], yticks=[])


net = NextWord()
before = net.embedding.weight.data.copy()  # (V, C)
print("the vector of 'cat':", before[id_of["cat"]])

# %%
# From scores to a loss
# ---------------------
#
# The network gives each word of the vocabulary a score, its *logit*. A function named
# *softmax* turns logits :math:`z` into probabilities: positive numbers that add up to
# 1.
#
# .. math:: p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}
#
# The loss is small if the word that really came next has a high probability: minus the
# logarithm of that probability, on average over all places. It is called
# *cross-entropy* and measured in *nats*. A sure and right prediction (probability 1)
# costs 0. A probability of one half costs 0.69. A blind guess among 27 words costs
# :math:`\log 27 = 3.30`.

inputs, targets = (
    ids[:-1],
    ids[1:],
)  # (N - 1,) each: the target is the next word
with no_grad():
    logits = net(inputs[:1])  # (1, V)
    p = softmax(logits).numpy()[0]  # (V,)
print(f"probabilities add up to {p.sum():.3f}")
print(f"of the right word: {p[targets[0]]:.3f}, loss {-np.log(p[targets[0]]):.2f} nats")

# %%
# ``no_grad`` switches the recording off where no gradient is needed.
#
# Training
# --------
#
# Each step takes a *minibatch*: 256 random places of the text instead of all. Its
# gradient differs from that of the whole text by chance, but on average over many draws
# it is the same. So many cheap steps lead to the same place.
# :class:`~axone.autograd.optim.AdamW` is an optimizer that chooses a step size for each
# parameter (page 9 explains it).

optimizer = AdamW(net.parameters(), lr=0.02, weight_decay=0.0)
losses = []
for _ in range(1000):
    rows = rng.integers(0, len(inputs), 256)  # (256,)
    loss = cross_entropy(net(inputs[rows]), targets[rows])  # ()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss: {losses[0]:.2f} nats at first, {np.mean(losses[-50:]):.2f} at the end")

# %%
# It cannot reach zero: which animal comes after "the" is chance. But the points have
# moved:

fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 9), layout="constrained")
show(top, before)
top.set_title("before training")
show(bottom, net.embedding.weight.data)
bottom.set_title("after training")
bottom.legend(loc="best", fontsize=9)
plt.show()

# %%
# Words of one group are now close together (except ``the``, which is followed by other
# words than the rest of "others"). The network was never given the groups. It found
# them because words of one group are followed by the same words: whatever is the best
# vector for ``cat`` is also the best one for ``dog``. The nearest words, by distance:

vectors = net.embedding.weight.data  # (V, C)
for word in ("cat", "soup", "runs", "hill", "red"):
    distance = np.linalg.norm(vectors - vectors[id_of[word]], axis=1)  # (V,)
    print(f"{word}:", ", ".join(words[i] for i in distance.argsort()[1:4]))

# %%
# The gradient explains it. Each row moves to where *its* next words become more
# probable. ``cat`` and ``dog`` have the same next words, so the same place is best for
# both. They begin at different places, and both are pulled to this one.
#
# Order
# -----
#
# To predict well, a model must see more than one word. Take the vectors of several
# words, and let the same small network look at each of them, then average. One thing is
# missing: the *order*. "dog bites man" and "man bites dog" are the same three vectors,
# so their average is the same.
#
# The remedy is as simple as the embedding: **each position gets a vector, too**, and it
# is added to that of the token. Position 0 has one vector, position 1 another, whatever
# the token is. Token :math:`i` at position :math:`t` enters the model as
#
# .. math:: x_t = E_{i} + P_{t}
#
# with a row of the table of tokens :math:`E` and a row of the table of positions
# :math:`P`. A task that needs the order: five different tokens are shown, and the first
# is wanted.


class First(Module):
    """Network that names the first token of a sequence."""

    def __init__(self, positions: bool) -> None:
        rng = np.random.default_rng(0)
        self.embedding = Embedding(10, 16, rng=rng)  # weight (10, C)
        self.position = Embedding(5, 16, rng=rng) if positions else None  # (T, C)
        self.hidden = Linear(16, 32, rng=rng)
        self.output = Linear(32, 10, rng=rng)

    def __call__(self, ids: np.ndarray) -> Tensor:
        """Return logits (B, V) of ids (B, T)."""
        x = self.embedding(ids)  # (B, T, C)
        if self.position is not None:
            x = x + self.position(np.arange(5))  # (B, T, C) + (T, C)
        h = tanh(self.hidden(x))  # (B, T, 32)
        return self.output(h.mean(axis=1))  # (B, V)


fig, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
for positions in (False, True):
    first = First(positions)
    optimizer = AdamW(first.parameters(), lr=0.01, weight_decay=0.0)
    losses = []
    for _ in range(500):
        every = np.tile(np.arange(10), (64, 1))  # (64, 10)
        shown = rng.permuted(every, axis=1)[:, :5]  # (B, T) = (64, 5)
        loss = cross_entropy(first(shown), shown[:, 0])  # ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    axis.plot(losses, label="with positions" if positions else "without")
axis.axhline(np.log(5), color="black", ls="--", label="log 5: one in five")
axis.set(xlabel="step", ylabel="loss in nats", ylim=(0, 2.5))
axis.legend()
plt.show()

# %%
# Without positions the network learns which five tokens are there, and then guesses: it
# can never be below :math:`\log 5 = 1.61`. With positions it solves the task.
#
# Rotary positions
# ----------------
#
# Newer models do not add anything. They *rotate* the vectors: pairs of channels turn by
# an angle that grows with the position, each pair at another speed, like the hands of a
# clock. If two vectors are then compared by a product, as attention does on the next
# page, their positions count only by the *distance* between them. Here is one vector
# at 120 positions, each compared with the same vector at position 60:

rotary = RotaryEmbedding(64)
same = Tensor(np.ones((120, 64), np.float32))  # (120, C): one vector, 120 times
turned = rotary(same, np.arange(120)).numpy()  # (120, C), at positions 0 to 119

fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
axis.plot(turned @ turned[60])  # (120,)
axis.set(xlabel="position of the other vector", ylabel="product")
axis.set_title("compared with a vector at position 60")
plt.show()

for a, b in [(60, 57), (10, 7), (103, 100)]:
    print(f"positions {a} and {b}: product {turned[a] @ turned[b]:.3f}")

# %%
# The curve is highest at the same position, falls in waves with the distance, and is
# symmetric. Three pairs at a distance of three have the same product, wherever they
# are.
#
# Exercises
# ---------
#
# **1.** How many parameters have the embeddings of GPT-2: 50,257 tokens, 1,024
# positions, 768 channels?
#
# .. dropdown:: Answer
#
#    50,257 · 768 = 38.6 million for tokens and 1,024 · 768 = 0.8 million for positions,
#    of 124 million in all.
#
# **2.** A model gives the right word the probability 0.1. What is its loss there? And
# with 0.2?
#
# .. dropdown:: Answer
#
#    :math:`-\log 0.1 = 2.30` and :math:`-\log 0.2 = 1.61` nats. To double the
#    probability lowers the loss by :math:`\log 2 = 0.69`, wherever one starts.
#
# **3.** In the picture after training, why are ``in``, ``to`` and ``.`` close together?
#
# .. dropdown:: Answer
#
#    All three are followed by ``the``. So one vector is the best for all of them.
#
# An average treats all positions alike. But which earlier words matter depends on the
# word that looks. This is the task of attention: :doc:`plot_07_attention`.
