"""
One neuron
==========

A neuron multiplies its inputs by weights, adds them up, and outputs a number between -1 and 1. All later models, up to
the GPT, learn in the same way.
"""

# %%
# Value
# -----
#
# A :class:`~axone.autograd.Value` is a number that stores the Values from which it was computed. This neuron has two
# inputs: it multiplies each by a weight, adds a bias, and squashes the sum with tanh.

import matplotlib.pyplot as plt
import numpy as np

from axone.autograd import Value, draw

w1, w2, bias = Value(0.5), Value(-1.0), Value(0.25)


def neuron(x1: float, x2: float) -> Value:
    """Return the output of the neuron for two inputs."""
    return (w1 * x1 + w2 * x2 + bias).tanh()


output = neuron(2.0, 0.5)
output

# %%
# Gradients
# ---------
#
# How does the output change if a weight is a little larger? ``backward`` propagates from the output to all Values from
# which it was computed, and stores this slope in ``.grad`` of each.

output.backward()
print(f"slopes: w1 {w1.grad:.4f}, w2 {w2.grad:.4f}, bias {bias.grad:.4f}")

# %%
# :func:`~axone.autograd.draw` shows the whole graph: data from left to right, gradients from right to left.

draw(output, names={"w1": w1, "w2": w2, "bias": bias})

# %%
# Check the slope: make the first weight a little larger, by hand:

nudge = 1e-6
before = output.data
w1.data += nudge
after = neuron(2.0, 0.5).data
w1.data -= nudge
print(f"slope of w1, by hand: {(after - before) / nudge:.4f}")

# %%
# By hand this takes one computation per weight. Backpropagation computes all slopes in one pass, for three weights or
# for a billion. Therefore all neural networks learn in this way.
#
# Learning
# --------
#
# Two clouds of points. We want the neuron to output 1 for one cloud and -1 for the other.

rng = np.random.default_rng(1)
red = rng.normal((1.0, 1.0), 0.6, (20, 2))
blue = rng.normal((-1.0, -0.5), 0.6, (20, 2))
points = np.concatenate([red, blue])
targets = [1.0] * 20 + [-1.0] * 20


def loss() -> Value:
    """Return the mean squared error of the outputs."""
    total = Value(0.0)
    for (x1, x2), target in zip(points.tolist(), targets):
        total += (neuron(x1, x2) - target) ** 2
    return total / len(targets)


# %%
# Learning repeats one step: compute how the loss changes with each weight, and move each weight a little in the
# direction in which the loss falls. The slopes add up in ``.grad``, so they are set to zero before each backward pass.

losses = []
for _ in range(30):
    for weight in (w1, w2, bias):
        weight.grad = 0.0
    error = loss()
    error.backward()
    for weight in (w1, w2, bias):
        weight.data -= 0.3 * weight.grad
    losses.append(error.data)

print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at the end")

# %%
# The colour is the neuron's output at each point. The boundary is a straight line, on which the weighted sum is zero.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(losses)
left.set(xlabel="step", ylabel="loss")

side = np.linspace(-3, 3, 80)
shade = [[neuron(x1, x2).data for x1 in side] for x2 in side]
right.pcolormesh(side, side, shade, vmin=-1, vmax=1, cmap="RdBu_r", alpha=0.7)
right.contour(side, side, shade, levels=[0.0], colors="black")
right.scatter(*points.T, c=targets, cmap="RdBu_r", edgecolors="black")
right.set(xlabel="first input", ylabel="second input")
plt.show()
