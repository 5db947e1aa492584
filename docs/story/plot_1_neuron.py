"""
One neuron
==========

A neuron weighs its inputs, adds them up, and answers with a number between -1 and 1. Everything that follows, up to the
GPT, learns in the way that this one does.
"""

# %%
# A number that remembers
# -----------------------
#
# A :class:`~axone.autograd.Value` is a number that remembers what it was computed from. Here is a neuron with two inputs:
# it multiplies each by a weight, adds a bias, and squashes the sum with tanh.

import matplotlib.pyplot as plt
import numpy as np

from axone.autograd import Value, draw

w1, w2, bias = Value(0.5), Value(-1.0), Value(0.25)


def neuron(x1: float, x2: float) -> Value:
    """Return the neuron's answer to two inputs."""
    return (w1 * x1 + w2 * x2 + bias).tanh()


answer = neuron(2.0, 0.5)
answer

# %%
# Walking back
# ------------
#
# How would the answer change if a weight were a little larger? ``backward`` walks from the answer to all that it was
# computed from, and leaves that slope in ``.grad`` of each.

answer.backward()
print(f"slopes: w1 {w1.grad:.4f}, w2 {w2.grad:.4f}, bias {bias.grad:.4f}")

# %%
# :func:`~axone.autograd.draw` shows the whole walk: data from left to right, gradients from right to left.

draw(answer, names={"w1": w1, "w2": w2, "bias": bias})

# %%
# Is it true? Make the first weight a little larger, by hand:

nudge = 1e-6
before = answer.data
w1.data += nudge
after = neuron(2.0, 0.5).data
w1.data -= nudge
print(f"slope of w1, by hand: {(after - before) / nudge:.4f}")

# %%
# By hand this takes one computation for each weight; walking back gives all slopes at once, whether there are three
# weights or a billion. That is why everything learns this way.
#
# Learning
# --------
#
# Two clouds of points. The neuron shall answer 1 to one of them and -1 to the other.

rng = np.random.default_rng(1)
red = rng.normal((1.0, 1.0), 0.6, (20, 2))
blue = rng.normal((-1.0, -0.5), 0.6, (20, 2))
points = np.concatenate([red, blue])
wanted = [1.0] * 20 + [-1.0] * 20


def loss() -> Value:
    """Return the mean square of what is missing to the wanted answers."""
    total = Value(0.0)
    for (x1, x2), target in zip(points.tolist(), wanted):
        total += (neuron(x1, x2) - target) ** 2
    return total / len(wanted)


# %%
# Learning is one thing, over and over: ask how the loss changes with each weight, and move each a little to where the
# loss falls. The slopes add up in ``.grad``, so they are set to zero before each walk back.

losses = []
for _ in range(30):
    for weight in (w1, w2, bias):
        weight.grad = 0.0
    error = loss()
    error.backward()
    for weight in (w1, w2, bias):
        weight.data -= 0.3 * weight.grad
    losses.append(error.data)

print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} in the end")

# %%
# The shade is the neuron's answer everywhere. It draws one straight line, where the weighted sum is zero.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(losses)
left.set(xlabel="step", ylabel="loss")

side = np.linspace(-3, 3, 80)
shade = [[neuron(x1, x2).data for x1 in side] for x2 in side]
right.pcolormesh(side, side, shade, vmin=-1, vmax=1, cmap="RdBu_r", alpha=0.7)
right.contour(side, side, shade, levels=[0.0], colors="black")
right.scatter(*points.T, c=wanted, cmap="RdBu_r", edgecolors="black")
right.set(xlabel="first input", ylabel="second input")
plt.show()
