r"""
8. The Transformer block
========================

A *Transformer* is a stack of equal blocks. In each block, attention moves information between
positions, and a small network computes with it at each position. Two additions make it
possible to stack a hundred of them: *residual connections* and *normalization*.
"""

# %%
# One block
# ---------
#
# The picture is read from bottom to top. The thick line is the *residual stream*: one
# vector of C numbers for each position. It runs through the model from the embedding to
# the output. Each part reads a normalized copy of it, and **adds** its result to it.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from axone.autograd import Tensor, grad, no_grad
from axone.autograd.optim import AdamW
from axone.llm import LanguageModel, LanguageModelConfig
from axone.nn import Embedding, FeedForward, LayerNorm, Module, MultiHeadAttention
from axone.nn.functional import cross_entropy
from axone.tokenizer import CharTokenizer


# sphinx_gallery_start_ignore
def box(axis: Axes, y: float, text: str, color: str) -> None:
    """Draw a box with a text beside the stream."""
    shape = FancyBboxPatch((1.0, y), 2.2, 0.6, boxstyle="round", fc=color, ec="0.4")
    axis.add_patch(shape)
    axis.text(2.1, y + 0.3, text, ha="center", va="center")


fig, axis = plt.subplots(figsize=(5, 5), layout="constrained")
axis.annotate("", (0, 8.2), (0, -0.6), arrowprops={"arrowstyle": "->", "lw": 4})
for bottom, part, color in [
    (0, "attention", "#fde5c8"),
    (4, "feed-forward", "#d5e8d4"),
]:
    box(axis, bottom + 0.6, "normalize", "#f0f0f0")
    box(axis, bottom + 2.0, part, color)
    arrow = {"arrowstyle": "->", "color": "0.4"}
    axis.annotate("", (0.9, bottom + 0.9), (0, bottom + 0.2), arrowprops=arrow)
    axis.annotate("", (2.1, bottom + 1.9), (2.1, bottom + 1.3), arrowprops=arrow)
    axis.annotate("", (0.1, bottom + 3.3), (1.0, bottom + 2.6), arrowprops=arrow)
    axis.text(-0.35, bottom + 3.2, "+", fontsize=18, ha="center")
axis.text(0, -1.0, "x   (B, T, C)", ha="center")
axis.set(xlim=(-1.2, 3.8), ylim=(-1.3, 8.4))
axis.axis("off")
plt.show()
# sphinx_gallery_end_ignore

# %%
# As formulas, with :math:`\mathrm{norm}` for the normalization:
#
# .. math::
#
#    x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x))
#
# .. math::
#
#    x \leftarrow x + \mathrm{feedforward}(\mathrm{norm}(x))
#
# Feed-forward
# ------------
#
# The *feed-forward* layer is the network of page 3 with one hidden layer: from C to 4 C
# channels, an activation, and back to C. It is applied to each position alone. The
# activation is *GELU*: it makes negative numbers almost zero, leaves positive ones
# almost as they are, and bends smoothly in between. Unlike tanh it is not flat for
# large positive numbers, so more of the gradient passes (page 3). About two thirds of
# the parameters of a block are in the feed-forward layer.

C = 64
feed_forward = FeedForward(C, 4 * C, rng=np.random.default_rng(0))
print(feed_forward)

# %%
# Residual connections
# --------------------
#
# Why add? Stack 24 feed-forward layers, and measure the gradient of the result with
# respect to the stream at each depth. Once with each layer replacing the stream,
# :math:`x \leftarrow f(x)`, and once with each layer adding to it,
# :math:`x \leftarrow x + f(x)`. ``grad(result, tensors)`` returns the gradients of a
# result with respect to each of the Tensors.

DEPTH = 24


def gradient_sizes(*, residual: bool) -> list[float]:
    """Return the size of the gradient before each of 24 layers."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, C))  # (8, C): eight positions
    x = Tensor(data, requires_grad=True, dtype=np.float32)  # (8, C)
    stream = [x]
    for _ in range(DEPTH):
        y = FeedForward(C, 4 * C, rng=rng)(x)  # (8, C)
        x = x + y if residual else y  # (8, C)
        stream.append(x)
    direction = rng.normal(size=(8, C)).astype(np.float32)  # (8, C)
    gradients = grad((x * direction).sum(), stream)  # each (8, C)
    return [float(np.sqrt((g**2).mean())) for g in gradients]


plain = gradient_sizes(residual=False)
added = gradient_sizes(residual=True)
fig, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
axis.semilogy(plain, "s-", label="x = f(x)")
axis.semilogy(added, "o-", label="x = x + f(x)")
axis.set(xlabel="depth (0 is the input)", ylabel="size of the gradient")
axis.legend()
plt.show()
print(f"gradient at the input: {plain[0]:.1e} without residuals, {added[0]:.1e} with")

# %%
# The chain rule explains it. Without residuals the gradient is multiplied by the local
# derivative of every layer, here about one sixth. After 24 layers, a gradient of 1 has
# become 0.0000000000000000002: the first layers cannot learn. This is the *vanishing
# gradient*. With residuals it is 1.7 there, because the local derivative is
#
# .. math:: \frac{\partial (x + f(x))}{\partial x} = 1 + \frac{\partial f}{\partial x}
#
# The 1 is a path on which the gradient arrives at every depth undiminished.
#
# Normalization
# -------------
#
# Adding has a price: the numbers in the stream can grow from layer to layer, and then
# one layer gets inputs of another size than the next. So each part reads a *normalized*
# copy: subtract the mean of the C numbers at a position, and divide by their standard
# deviation :math:`\sigma`, their typical distance from the mean. Then scale by a
# learned weight :math:`\gamma` and shift by a learned bias :math:`\beta`:
#
# .. math::
#
#    \mathrm{LayerNorm}(x) = \gamma \cdot \frac{x - \mathrm{mean}(x)}{\sigma(x)} + \beta

vector = np.array([1.0, 2.0, 3.0, 6.0], dtype=np.float32)  # (4,)
by_hand = (vector - vector.mean()) / vector.std()  # (4,)
print("mean", vector.mean(), "standard deviation", vector.std().round(3))
print("by hand  ", by_hand.round(3))
print("LayerNorm", LayerNorm(4)(Tensor(vector)).numpy().round(3))
print("ten times", LayerNorm(4)(Tensor(10 * vector)).numpy().round(3))

# %%
# The last line shows the purpose: a stream ten times as large gives the same input to
# the next layer. To see what it does in the stack, make the layers stronger: weights
# grow in training. The factor 6 is large enough to show the effect in 24 layers.

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for norm, marker in [(False, "s"), (True, "o")]:
    label = "with norm" if norm else "without"
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(8, C)), requires_grad=True, dtype=np.float32)  # (8, C)
    stream = [x]
    for _ in range(DEPTH):
        layer = FeedForward(C, 4 * C, rng=rng)
        y = layer(LayerNorm(C)(x) if norm else x)  # (8, C)
        x = x + y * 6.0  # (8, C)
        stream.append(x)
    gradients = grad(x.sum(), stream)  # each (8, C)
    left.semilogy(
        [float(np.abs(s.data).mean()) for s in stream], marker + "-", label=label
    )
    right.semilogy([float(np.abs(g).mean()) for g in gradients], marker + "-")
left.set(xlabel="depth", ylabel="size of the stream")
right.set(xlabel="depth", ylabel="size of the gradient")
left.legend()
plt.show()

# %%
# Without norms each layer multiplies the stream. It grows exponentially, to 260,000,
# and the gradient of the first layers *explodes*, to 410,000. With norms each layer
# adds about the same amount to the stream, which ends at 4.6. The backward pass divides
# by the standard deviation, too, so a layer adds less to the gradient if the stream is
# large. At the input the gradient is 4.3.
#
# Newer models use :class:`~axone.nn.RMSNorm`, which divides by the root of the mean
# square and leaves the mean.
#
# A GPT from parts
# ----------------
#
# Everything is there. A *GPT* (generative pretrained Transformer) is a Transformer that
# predicts the next token of texts. It has embeddings of tokens and positions (page 6),
# blocks of attention (page 7) and feed-forward (page 3), a last norm, and logits (page
# 6) for the next token at every position. The logits are products of the stream with
# the embedding of each token: the table is used twice, at the beginning and at the end.
# That saves parameters, and tokens that are used alike also get similar logits.


class Block(Module):
    """Transformer block: attention and feed-forward, each added to the stream."""

    def __init__(self, dim: int, num_heads: int) -> None:
        self.attention_norm = LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads)
        self.mlp_norm = LayerNorm(dim)
        self.mlp = FeedForward(dim, 4 * dim)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the stream (B, T, C) after the block."""
        x = x + self.attention(self.attention_norm(x))  # (B, T, C)
        return x + self.mlp(self.mlp_norm(x))  # (B, T, C)


class GPT(Module):
    """Language model: logits of the next token at each position."""

    def __init__(
        self, vocab: int, context: int, layers: int, heads: int, dim: int
    ) -> None:
        self.embedding = Embedding(vocab, dim)  # weight (V, C)
        self.position = Embedding(context, dim)  # weight (T, C)
        self.blocks = [Block(dim, heads) for _ in range(layers)]
        self.norm = LayerNorm(dim)

    def __call__(self, ids: np.ndarray) -> Tensor:
        """Return logits (B, T, V) of ids (B, T)."""
        x = self.embedding(ids)  # (B, T, C)
        x = x + self.position(np.arange(ids.shape[1]))  # (B, T, C) + (T, C)
        for block in self.blocks:
            x = block(x)  # (B, T, C)
        return self.norm(x) @ self.embedding.weight.T  # (B, T, V)


text = "the fox saw the owl. the owl saw the hare. the hare saw the fox. " * 20
tokenizer = CharTokenizer.train(text)
V = tokenizer.vocab_size
gpt = GPT(V, context=32, layers=2, heads=2, dim=32)
print(gpt)

# %%
# Is it really a GPT? :class:`~axone.llm.LanguageModel` is the library's. Its
# ``state_dict`` has all parameters by name. Copy them into ours, and compare the
# logits:

config = LanguageModelConfig(
    vocab_size=V, context_length=32, num_layers=2, num_heads=2, embed_dim=32
)
library = LanguageModel(config, rng=np.random.default_rng(0))
state = library.state_dict()  # names and arrays
gpt.load_state_dict({name.removeprefix("transformer."): a for name, a in state.items()})

ids = np.array(tokenizer.encode(text))  # (N,)
example = ids[None, :32]  # (1, 32)
with no_grad():
    difference = gpt(example).numpy() - library(example).numpy()  # (1, 32, V)
print(f"largest difference of the logits: {np.abs(difference).max():.1e}")

# %%
# Now train ours. The input is a piece of the text, and the target is the same piece one
# position later: at **every** position the model predicts the next token. So a sequence
# of 32 tokens is 32 examples at once. The causal mask makes this fair.

rng = np.random.default_rng(0)
optimizer = AdamW(gpt.parameters(), lr=3e-3, weight_decay=0.0)
losses = []
for _ in range(150):
    starts = rng.integers(0, len(ids) - 33, 16)  # (B,) = (16,)
    pieces = ids[starts[:, None] + np.arange(33)]  # (B, T + 1)
    logits = gpt(pieces[:, :-1])  # (B, T, V)
    loss = cross_entropy(logits, pieces[:, 1:])  # ()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss: {losses[0]:.2f} nats at first, {losses[-1]:.2f} at the end")

# %%
# It starts near :math:`\log V`, a blind guess. To write, feed a beginning, take the
# most probable next token, append it, and repeat:

written = tokenizer.encode("the hare ")
with no_grad():
    for _ in range(40):
        last = np.array(written[-32:])[None]  # (1, at most 32)
        logits = gpt(last)  # (1, T, V)
        written.append(int(logits.numpy()[0, -1].argmax()))
print(tokenizer.decode(written))

# %%
# Exercises
# ---------
#
# **1.** How many parameters has a block with C = 32, with biases? (Attention: C to 3 C
# for queries, keys and values, and C to C at its end.)
#
# .. dropdown:: Answer
#
#    Attention: 32 · 96 + 96 + 32 · 32 + 32 = 4,224. Feed-forward: 32 · 128 + 128 + 128 · 32
#    + 32 = 8,352. Two norms: 2 · (32 + 32) = 128. Together 12,704. The printed model says
#    the same.
#
# **2.** Leave out ``self.position`` in ``__call__``. Does the model still learn?
#
# .. dropdown:: Answer
#
#    Yes, more slowly. The causal mask gives away some order, because position 3 sees
#    four tokens and position 4 sees five. But which one was *just before* is hard to see.
#
# **3.** Why is the last norm needed, after the last block?
#
# .. dropdown:: Answer
#
#    The stream has been added to by every block, so its size depends on the depth and on
#    the token. The norm gives the logits a defined size.
#
# This loop is all of training in principle. The next page is about doing it well:
# :doc:`plot_09_training`.
