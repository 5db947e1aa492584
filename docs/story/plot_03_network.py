r"""
3. A network of neurons
=======================

One neuron draws a straight line. Neurons in *layers* draw any curve: each neuron of a
layer reads the outputs of all neurons of the layer before it. This is a *neural network*,
and of this kind a *multilayer perceptron* (MLP).
"""

# %%
# Two moons
# ---------
#
# No straight line separates these points.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from axone.autograd import Value
from axone.autograd.optim import SGD
from axone.nn.scalar import MLP

rng = np.random.default_rng(0)
angle = rng.uniform(0, np.pi, 20)  # (20,)
upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (20, 2)
lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)  # (20, 2)
upper += rng.normal(0, 0.1, (20, 2))  # (20, 2), noise
lower += rng.normal(0, 0.1, (20, 2))  # (20, 2)
points = np.concatenate([upper, lower])  # (40, 2)
targets = np.repeat([1.0, -1.0], 20)  # (40,)


def show_points(axis: Axes) -> None:
    """Draw the points: circles have target 1, squares have target -1."""
    for part, color, marker in [
        (upper, "darkred", "o"),
        (lower, "darkblue", "s"),
    ]:
        x, y = part.T  # (20,), (20,)
        target = "1" if marker == "o" else "-1"
        axis.scatter(x, y, c=color, ec="white", s=40, marker=marker, label=target)
    axis.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
show_points(axis)
axis.legend(title="target")
plt.show()

# %%
# The network
# -----------
#
# Ours has two inputs, two layers of eight neurons, and one output neuron. The layers
# between the inputs and the output are called *hidden*. Each line of the picture is a
# weight.

sizes = [2, 8, 8, 1]
# sphinx_gallery_start_ignore
fig, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for layer, (n, m) in enumerate(pairwise(sizes)):
    for i in np.arange(n) - (n - 1) / 2:
        for j in np.arange(m) - (m - 1) / 2:
            axis.plot([layer, layer + 1], [i, j], color="0.75", lw=0.8, zorder=1)
for layer, n in enumerate(sizes):
    axis.scatter([layer] * n, np.arange(n) - (n - 1) / 2, s=160, zorder=2)
axis.set_xticks(range(4), ["inputs", "layer 1", "layer 2", "output"])
axis.set_yticks([])
axis.spines[:].set_visible(False)
plt.show()
# sphinx_gallery_end_ignore

# %%
# Neuron :math:`j` of a layer computes, from the outputs :math:`x_i` of the layer
# before,
#
# .. math:: y_j = \tanh\Bigl(\sum_{i} w_{ji} x_i + b_j\Bigr)
#
# Why the activation? Without it each layer is a weighted sum. A weighted sum of
# weighted sums is again a weighted sum, so the whole network would be one straight
# line. The bend in tanh is what makes layers worth having.

net = MLP(2, [8, 8, 1], output_activation="tanh", rng=np.random.default_rng(1))
print(f"{len(net.parameters())} parameters")

# %%
# The weights begin as random numbers. ``rng`` is the source of these, and the same
# seed, here 1, gives the same numbers each time. Count the parameters: 2 · 8 + 8 in the
# first layer, 8 · 8 + 8 in the second, 8 + 1 in the last: 105.
#
# Loss and training step
# ----------------------
#
# The loss is the mean squared error, as for the taxi. A training step is always the
# same four lines: compute the loss, set the gradients to zero, backward pass, move the
# parameters. The last is done by an *optimizer*. :class:`~axone.autograd.optim.SGD`
# moves each parameter against its gradient, times the learning rate ``lr``, as we did
# by hand. With *momentum* it also keeps nine tenths of its last move, like a ball that
# rolls: where the loss is almost flat, it gathers speed.


def mean_loss(net: MLP) -> Value:
    """Return the mean squared error of the network."""
    total = Value(0.0)
    for point, target in zip(points.tolist(), targets.tolist()):
        (output,) = net(point)
        total += (output - target) ** 2
    return total / len(targets)


def train(net: MLP, lr: float, steps: int) -> list[float]:
    """Train the network, and return the loss of each step."""
    optimizer = SGD(net.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = mean_loss(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
    return losses


losses = train(net, lr=0.2, steps=60)
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} at the end")

# %%
# One backward pass goes through all steps of all forty outputs: some 8,600 Values.
#
# The black line is the *boundary*: there the output is zero. The colour is the output,
# red for 1 and blue for -1. Above: a single neuron, trained in the same way. Its
# boundary is straight. Below: the network. Its boundary bends.

single = MLP(2, [1], output_activation="tanh", rng=np.random.default_rng(1))
train(single, lr=0.2, steps=60)

side_x = np.linspace(-1.5, 2.5, 41)  # (41,)
side_y = np.linspace(-1.1, 1.6, 28)  # (28,)
EDGES = (-1.5, 2.5, -1.1, 1.6)
grid = [[[x, y] for x in side_x] for y in side_y]
line = np.array([[single(p)[0].data for p in row] for row in grid])  # (28, 41)
curve = np.array([[net(p)[0].data for p in row] for row in grid])  # (28, 41)

fig, axes = plt.subplots(2, 1, figsize=(6, 7.5), layout="constrained")
titles = ["one neuron", "the network"]
for axis, shade, title in zip(axes, [line, curve], titles):
    axis.imshow(
        shade,
        vmin=-1,
        vmax=1,
        cmap="RdBu_r",
        alpha=0.6,
        origin="lower",
        extent=EDGES,
    )
    axis.contour(side_x, side_y, shade, levels=[0.0], colors="black")
    show_points(axis)
    axis.set_title(title)
plt.show()

# %%
# Inside
# ------
#
# The eight neurons of the first layer draw eight straight lines. A neuron of the second
# layer adds up these eight maps, each times a weight. Near the line of one map the sum
# changes with this map, because the others are flat there. Elsewhere it changes with
# another map. So the boundary of the sum follows one line, then the next: it is bent.
# The output neuron adds up such bent maps. The lines were not programmed: the gradients
# led to them.

first = net.layers[0]
hidden = [[[y.data for y in first(p)] for p in row] for row in grid]
maps = np.array(hidden)  # (28, 41, 8)
fig, axes = plt.subplots(2, 4, figsize=(7, 3.4), layout="constrained")
for number, axis in enumerate(axes.flat):
    axis.imshow(maps[:, :, number], vmin=-1, vmax=1, cmap="RdBu_r", origin="lower")
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"neuron {number + 1}", fontsize=11)
plt.show()

# %%
# Learning rate
# -------------
#
# The learning rate is the number that most often decides whether training works. Here
# is the same network with three of them:

fig, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
for lr in (0.01, 0.2, 4.0):
    fresh = MLP(2, [8, 8, 1], output_activation="tanh", rng=np.random.default_rng(1))
    axis.semilogy(train(fresh, lr, 40), label=f"lr = {lr:g}")
axis.set(xlabel="step", ylabel="loss")
axis.legend()
plt.show()

# %%
# * **Too small** (0.01): it falls, but slowly.
# * **Good** (0.2): a plateau, then a steep fall.
# * **Too large** (4): steps jump over the bottom, the sums inside tanh become large, and
#   there tanh is flat: its local derivative :math:`1 - \tanh^2` is almost zero. By the
#   chain rule almost no gradient passes, and the network is stuck.
#
# If a loss does not fall, first try a tenth of the learning rate; then, three times as
# much.
#
# Exercises
# ---------
#
# **1.** How many parameters has an MLP with 2 inputs and layers of 16, 16 and 1
# neurons?
#
# .. dropdown:: Answer
#
#    2 · 16 + 16 = 48, then 16 · 16 + 16 = 272, then 16 + 1 = 17: together 337.
#
# **2.** Add ``activation="linear"`` to the arguments of ``MLP``, so that the hidden
# layers have no tanh, and train. What do you expect of the boundary?
#
# .. dropdown:: Answer
#
#    It is a straight line, because sums of sums are sums. The loss ends near that of the
#    single neuron.
#
# **3.** All weights start as random numbers. What happens if all start as zero?
#
# .. dropdown:: Answer
#
#    All neurons of a layer then compute the same and receive the same gradient, so they
#    stay copies of one neuron for ever. Here it is even worse: the gradient of each hidden
#    weight is multiplied by a weight of the next layer, which is zero. Only the last bias
#    could learn, and not even that one does: there are as many targets of 1 as of -1.
#
# Sixty steps of this small network took seconds, because every number is an object
# of Python. The next page computes the same with arrays, hundreds of times as fast:
# :doc:`plot_04_tensor`.
