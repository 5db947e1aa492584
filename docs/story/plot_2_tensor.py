"""
From Value to Tensor
====================

One neuron draws a straight line. Many of them in layers bend it: a *multi-layer perceptron*. First from Values, number by
number; then the same network as a few products of arrays.
"""

# %%
# Two moons
# ---------
#
# No straight line parts these.

import time
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from axone.autograd import Tensor, Value, draw, no_grad, tanh
from axone.autograd.optim import AdamW

rng = np.random.default_rng(0)
angle = rng.uniform(0, np.pi, 100)
moons = np.concatenate(
    [
        np.stack([np.cos(angle[:50]), np.sin(angle[:50])], axis=1),
        np.stack([1 - np.cos(angle[50:]), 0.5 - np.sin(angle[50:])], axis=1),
    ]
) + rng.normal(0, 0.1, (100, 2))  # (100, 2)
wanted = np.repeat([1.0, -1.0], 50)[:, None]  # (100, 1)

# %%
# From Values
# -----------
#
# A layer of neurons is a table of weights, one row for each neuron, and a bias for each. The network has two inputs,
# sixteen neurons, sixteen more, and one that answers.

sizes = [2, 16, 16, 1]
shapes = list(pairwise(sizes))
weights = [rng.normal(0, 1 / np.sqrt(n), (n, m)) for n, m in shapes]
biases = [np.zeros(m) for _, m in shapes]

value_weights = [[[Value(w) for w in row] for row in m.T] for m in weights]
value_biases = [[Value(b) for b in vector] for vector in biases]


def value_neuron(row: list[Value], bias: Value, inputs: list[Value]) -> Value:
    """Return the answer of one neuron."""
    return sum((w * x for w, x in zip(row, inputs)), bias).tanh()


def value_network(point: list[float]) -> Value:
    """Return the network's answer to one point."""
    numbers = [Value(x) for x in point]
    for layer in zip(value_weights, value_biases):
        numbers = [value_neuron(row, bias, numbers) for row, bias in zip(*layer)]
    return numbers[0]


start = time.perf_counter()
loss = Value(0.0)
for point, target in zip(moons.tolist(), wanted[:, 0].tolist()):
    loss += (value_network(point) - target) ** 2
loss = loss / len(moons)
loss.backward()
value_seconds = time.perf_counter() - start

# %%
# As Tensors
# ----------
#
# A :class:`~axone.autograd.Tensor` is to an array what a Value is to a number. All neurons of a layer, for all points at
# once, are one matrix product.

tensor_weights = [Tensor(matrix, requires_grad=True) for matrix in weights]
tensor_biases = [Tensor(vector, requires_grad=True) for vector in biases]


def network(points: Tensor) -> Tensor:
    """Return the answers to points of shape (N, 2), as (N, 1)."""
    x = points
    for matrix, bias in zip(tensor_weights, tensor_biases):
        x = tanh(x @ matrix + bias)
    return x


start = time.perf_counter()
tensor_loss = ((network(Tensor(moons)) - wanted) ** 2).mean()
tensor_loss.backward()
tensor_seconds = time.perf_counter() - start

print(f"Values:  {loss.data:.12f} in {value_seconds * 1000:6.1f} ms")
print(f"Tensors: {tensor_loss.item():.12f} in {tensor_seconds * 1000:6.1f} ms")
print(f"The same work, {value_seconds / tensor_seconds:.0f} times as fast")

# %%
# The record of Tensors is short: here is that of the first layer, for all points and all neurons.

draw(tanh(Tensor(moons) @ tensor_weights[0] + tensor_biases[0]))

# %%
# The losses are the same, and so are the gradients, to the last digits:

for layer, matrix in zip(value_weights, tensor_weights):
    gradient = np.array([[w.grad for w in row] for row in layer]).T
    print(np.abs(gradient - matrix.grad).max())

# %%
# Learning
# --------
#
# Fast enough to learn in earnest. :class:`~axone.autograd.optim.AdamW` gives each weight a pace of its own.

optimizer = AdamW(tensor_weights + tensor_biases, lr=0.02, weight_decay=0.0)
losses = []
for _ in range(300):
    optimizer.zero_grad()
    tensor_loss = ((network(Tensor(moons)) - wanted) ** 2).mean()
    tensor_loss.backward()
    optimizer.step()
    losses.append(tensor_loss.item())

print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} in the end")

# %%
# The line bends. ``no_grad`` says that nobody will walk back through what is computed for the picture.

side = np.linspace(-1.7, 2.7, 120)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)  # (120 * 120, 2)
with no_grad():
    shade = network(Tensor(grid)).numpy().reshape(120, 120)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.semilogy(losses)
left.set(xlabel="step", ylabel="loss")
right.pcolormesh(side, side, shade, vmin=-1, vmax=1, cmap="RdBu_r", alpha=0.7)
right.contour(side, side, shade, levels=[0.0], colors="black")
right.scatter(*moons.T, c=wanted[:, 0], cmap="RdBu_r", edgecolors="black")
right.set(xlabel="first input", ylabel="second input")
plt.show()
