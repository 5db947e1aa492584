"""
From Value to Tensor
====================

The boundary of one neuron is a straight line. Many neurons in layers bend it: a *multi-layer perceptron*. This page
builds one from Values, number by number, and then the same network from a few products of arrays.
"""

# %%
# Two moons
# ---------
#
# No straight line separates these points.

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
targets = np.repeat([1.0, -1.0], 50)[:, None]  # (100, 1)

# %%
# From Values
# -----------
#
# A layer of neurons has a matrix of weights, one row per neuron, and a bias per neuron. The network has two inputs, two
# layers of sixteen neurons, and one output neuron.

sizes = [2, 16, 16, 1]
shapes = list(pairwise(sizes))
weights = [rng.normal(0, 1 / np.sqrt(n), (n, m)) for n, m in shapes]
biases = [np.zeros(m) for _, m in shapes]

value_weights = [[[Value(w) for w in row] for row in m.T] for m in weights]
value_biases = [[Value(b) for b in vector] for vector in biases]


def value_neuron(row: list[Value], bias: Value, inputs: list[Value]) -> Value:
    """Return the output of one neuron."""
    return sum((w * x for w, x in zip(row, inputs)), bias).tanh()


def value_network(point: list[float]) -> Value:
    """Return the output of the network for one point."""
    numbers = [Value(x) for x in point]
    for layer in zip(value_weights, value_biases):
        numbers = [value_neuron(row, bias, numbers) for row, bias in zip(*layer)]
    return numbers[0]


start = time.perf_counter()
loss = Value(0.0)
for point, target in zip(moons.tolist(), targets[:, 0].tolist()):
    loss += (value_network(point) - target) ** 2
loss = loss / len(moons)
loss.backward()
value_seconds = time.perf_counter() - start

# %%
# As Tensors
# ----------
#
# A :class:`~axone.autograd.Tensor` is a Value for arrays. One matrix product computes all neurons of a layer for all
# points.

tensor_weights = [Tensor(matrix, requires_grad=True) for matrix in weights]
tensor_biases = [Tensor(vector, requires_grad=True) for vector in biases]


def network(points: Tensor) -> Tensor:
    """Return the outputs (N, 1) for points (N, 2)."""
    x = points
    for matrix, bias in zip(tensor_weights, tensor_biases):
        x = tanh(x @ matrix + bias)
    return x


start = time.perf_counter()
tensor_loss = ((network(Tensor(moons)) - targets) ** 2).mean()
tensor_loss.backward()
tensor_seconds = time.perf_counter() - start

print(f"Values:  {loss.data:.12f} in {value_seconds * 1000:6.1f} ms")
print(f"Tensors: {tensor_loss.item():.12f} in {tensor_seconds * 1000:6.1f} ms")
print(f"The same work, {value_seconds / tensor_seconds:.0f} times as fast")

# %%
# The graph of Tensors is small: this is the first layer, for all points and all neurons.

draw(tanh(Tensor(moons) @ tensor_weights[0] + tensor_biases[0]))

# %%
# The losses are equal, and so are the gradients, except for the last digits:

for layer, matrix in zip(value_weights, tensor_weights):
    gradient = np.array([[w.grad for w in row] for row in layer]).T
    print(np.abs(gradient - matrix.grad).max())

# %%
# Learning
# --------
#
# This is fast enough to train. :class:`~axone.autograd.optim.AdamW` adapts the step size of each weight.

optimizer = AdamW(tensor_weights + tensor_biases, lr=0.02, weight_decay=0.0)
losses = []
for _ in range(300):
    optimizer.zero_grad()
    tensor_loss = ((network(Tensor(moons)) - targets) ** 2).mean()
    tensor_loss.backward()
    optimizer.step()
    losses.append(tensor_loss.item())

print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} at the end")

# %%
# The boundary bends. Within ``no_grad`` nothing is recorded, because the picture needs no gradients.

side = np.linspace(-1.7, 2.7, 120)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)  # (120 * 120, 2)
with no_grad():
    shade = network(Tensor(grid)).numpy().reshape(120, 120)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.semilogy(losses)
left.set(xlabel="step", ylabel="loss")
right.pcolormesh(side, side, shade, vmin=-1, vmax=1, cmap="RdBu_r", alpha=0.7)
right.contour(side, side, shade, levels=[0.0], colors="black")
right.scatter(*moons.T, c=targets[:, 0], cmap="RdBu_r", edgecolors="black")
right.set(xlabel="first input", ylabel="second input")
plt.show()
