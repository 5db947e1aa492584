r"""
4. From Value to Tensor
=======================

A network of Values makes an object for every number. Here the same network is computed
with a few operations on whole arrays: the same outputs, the same gradients, hundreds of
times as fast.
"""

# %%
# Numbers in a box
# ----------------
#
# An *array* is a box of numbers with a *shape*. A list of three numbers has the shape
# (3,). A table of two rows and three columns has (2, 3), and is also called a *matrix*.
# It has two *axes*: one counts the rows, the other the columns. The picture shows what
# this page arrives at: eight neurons, computed for four points, in one multiplication
# of two tables.

import timeit
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from axone.autograd import Tensor, Value, draw, tanh
from axone.autograd.optim import SGD
from axone.nn import MLP, Linear, scalar

# sphinx_gallery_start_ignore
tables = [
    ("points\n(4, 2)", 0.0, 4, 2, "tab:blue"),
    ("weights, turned\n(2, 8)", 4.6, 2, 8, "tab:orange"),
    ("sums\n(4, 8)", 15.2, 4, 8, "tab:green"),
]
fig, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
for title, left, rows, columns, color in tables:
    for row in range(rows):
        for column in range(columns):
            lit = {"tab:blue": row == 1, "tab:orange": column == 5}
            shade = 0.9 if lit.get(color, (row, column) == (1, 5)) else 0.25
            corner = (left + column, -row)
            axis.add_patch(Rectangle(corner, 0.9, 0.9, color=color, alpha=shade))
    axis.text(left + columns / 2, 1.4, title, ha="center")
axis.text(3.0, -1.2, "@", ha="center", fontsize=20)
axis.text(13.7, -1.2, "=", ha="center", fontsize=20)
axis.set(xlim=(-0.5, 23.5), ylim=(-3.2, 3.2), aspect="equal")
axis.axis("off")
plt.show()
# sphinx_gallery_end_ignore

# %%
# The dark number on the right is the dark row times the dark column: multiply pair by
# pair, add up. For point :math:`n` and neuron :math:`j`:
#
# .. math:: s_{nj} = \sum_i x_{ni} \, w_{ji}
#
# This operation is called *matrix product*, and Python writes it as ``@``. Add the bias
# :math:`b_j` to column :math:`j`, and it is the weighted sum of page 3, for all points
# and all neurons at once.
#
# Tensor
# ------
#
# A :class:`~axone.autograd.Tensor` is a Value for arrays. It has ``data`` and ``grad``,
# it records operations, and it has ``backward``. Put the formula of page 2 into it, now
# with three numbers in each box:

a = Tensor([2.0, 1.0, 0.0], requires_grad=True)  # (3,)
b = Tensor([-3.0, 4.0, 5.0], requires_grad=True)  # (3,)
c = Tensor(10.0, requires_grad=True)  # ()
L = ((a * b + c) * -2.0).sum()  # (), one number
L.backward()
print("dL/da =", a.grad)
print("dL/db =", b.grad)
print("dL/dc =", c.grad)

# %%
# The first entry of each is that of page 2: 6 and -4. ``requires_grad`` says which
# Tensors are parameters; no gradients are stored for the others.
#
# ``c`` is a single number that was added to three. NumPy repeats it, which is called
# *broadcasting*. Then it reaches the result along three paths, and by the rule of page
# 2 the gradients of the paths add up: -2 - 2 - 2 = -6.
#
# From Neuron to Linear
# ---------------------
#
# A :class:`~axone.nn.Linear` is a layer of neurons without activation: ``weight`` has
# one row per neuron, ``bias`` one number per neuron.

rng = np.random.default_rng(0)
layer = Linear(2, 8, rng=rng)  # weight (8, 2), bias (8,)
batch = Tensor(rng.normal(size=(4, 2)), dtype=np.float32)  # (4, 2): four points
out = tanh(layer(batch))  # (4, 8): eight neurons for each point
draw(out, names={"points": batch, **dict(layer.named_parameters())})

# %%
# The graph has three inputs and two operations for 32 neuron outputs. Each node has a
# shape instead of a number. Several examples in one array are a *batch*, and its first
# axis is always the example.
#
# :math:`W^{T}`, in Python ``W.T``, is the *transpose* of a matrix: its rows become
# columns. The local derivative of a matrix product is again a matrix product. If
# :math:`Y = X W^{T}` and :math:`G` is the gradient of :math:`Y`, then
#
# .. math::
#
#    \frac{\partial L}{\partial W} = G^{T} X \qquad \frac{\partial L}{\partial X} = G W
#
# It is nothing new: these are the products and sums of page 2, in a table. Check the
# shapes. The result is a table now, so ``backward`` needs the gradient to begin with.
# We choose 1 for each number:

ones = np.ones((4, 8), np.float32)  # (4, 8), the gradient G
product = batch @ layer.weight.T  # (4, 2) @ (2, 8) gives (4, 8)
product.backward(ones)
by_hand = ones.T @ batch.data  # (8, 4) @ (4, 2) gives (8, 2)
print("weight", layer.weight.shape, "gradient", by_hand.shape)
print("largest difference:", np.abs(by_hand - np.array(layer.weight.grad)).max())

# %%
# The same network
# ----------------
#
# ``scalar.MLP`` is the network of page 3, made of Values. :class:`~axone.nn.MLP` is the
# same network, made of Linear layers. Row :math:`j` of a ``weight`` holds the weights
# of neuron :math:`j`, so the numbers can be copied from one to the other. ``astype``
# gives the Tensors Python's precision, 64 bits; the default has 32 bits, which is
# faster and precise enough for training.

values = scalar.MLP(
    2, [8, 8, 1], output_activation="tanh", rng=np.random.default_rng(1)
)
tensors = MLP(2, [8, 8, 1], output_activation="tanh").astype(np.float64)
for neurons, linear in zip(values.layers, tensors.layers):
    weight, bias = linear.parameters()  # (neurons, inputs), (neurons,)
    for j, neuron in enumerate(neurons.neurons):
        weight.data[j] = [w.data for w in neuron.weights]  # (inputs,)
        bias.data[j] = neuron.bias.data
print(tensors)

# %%
# Now the moons, 400 points this time. Compute loss and gradients with both, and take
# the time:

angle = rng.uniform(0, np.pi, 200)  # (200,)
upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (200, 2)
lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)  # (200, 2)
points = np.concatenate([upper, lower])  # (400, 2)
points += rng.normal(0, 0.1, points.shape)  # (400, 2)
targets = np.repeat([1.0, -1.0], 200)[:, None]  # (400, 1)


def value_step(count: int) -> Value:
    """Compute the loss of some points and its gradients, number by number."""
    loss = Value(0.0)
    for point, (target,) in zip(points[:count].tolist(), targets.tolist()):
        loss += (values(point)[0] - target) ** 2 / count
    loss.backward()
    return loss


def tensor_step(count: int) -> Tensor:
    """Compute the loss of some points and its gradients, with arrays."""
    outputs = tensors(Tensor(points[:count]))  # (count, 1)
    loss = ((outputs - targets[:count]) ** 2).mean()  # ()
    loss.backward()
    return loss


def milliseconds(step: Callable[[int], object], count: int) -> float:
    """Return the time of a step, the shorter of two."""
    return min(timeit.repeat(lambda: step(count), number=1, repeat=2)) * 1000


value_ms, tensor_ms = (
    milliseconds(value_step, 400),
    milliseconds(tensor_step, 400),
)
for parameters in (values.parameters(), tensors.parameters()):
    SGD(parameters, lr=0.0).zero_grad()  # each timed step has added to the gradients
value_loss, tensor_loss = value_step(400), tensor_step(400)

print(f"Values:  {value_loss.data:.12f} in {value_ms:7.2f} ms")
print(f"Tensors: {tensor_loss.item():.12f} in {tensor_ms:7.2f} ms")
print(f"the same work, {value_ms / tensor_ms:.0f} times as fast")

# %%
# Expect hundreds of times. The losses are equal, and so are all 105 gradients, up to
# the last digits:

pairs = zip(values.layers, tensors.layers)
for number, (neurons, linear) in enumerate(pairs, 1):
    slopes = [[p.grad for p in n.parameters()] for n in neurons.neurons]
    arrays = [np.array(p.grad) for p in linear.parameters()]  # weight and bias
    both = np.column_stack(arrays)  # (neurons, inputs + 1)
    difference = np.abs(np.array(slopes) - both).max()
    print(f"layer {number}: largest difference of gradients {difference:.1e}")

# %%
# Batching
# --------
#
# Where does the factor come from? Not from arithmetic: both multiply the same numbers.
# For 400 points there are some 86,000 Values, and Python needs about a microsecond for
# each. There are only about ten Tensors. Each needs a few microseconds, and the numbers
# inside are computed in compiled loops, about a nanosecond for each product. So the
# larger the batch, the larger the factor:

sizes = [1, 2, 5, 10, 20, 50, 100, 200, 400]
fig, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
axis.loglog(sizes, [milliseconds(value_step, n) for n in sizes], "s-", label="Values")
axis.loglog(
    sizes,
    [milliseconds(tensor_step, n) for n in sizes],
    "o-",
    label="Tensors",
)
axis.set(xlabel="points in the batch", ylabel="ms per training step")
axis.legend()
plt.show()

# %%
# The time of Values grows with each point; that of Tensors hardly does. This is why
# networks are trained on batches. The result does not change: the loss is the mean over
# the points, so its gradient is the mean of the gradients that the points have alone.
#
# Training
# --------
#
# The loop is the one of page 3, with Tensors. 300 steps on ten times as many points
# take a fraction of a second.

optimizer = SGD(tensors.parameters(), lr=0.2, momentum=0.9)
losses = []
for _ in range(300):
    loss = ((tensors(Tensor(points)) - targets) ** 2).mean()  # ()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.1e} at the end")
outputs = tensors(Tensor(points)).numpy()  # (400, 1)
print(f"{(np.sign(outputs) == targets).mean():.1%} of the points are right")

# %%
# Exercises
# ---------
#
# **1.** ``x`` has the shape (64, 10), and a layer is ``Linear(10, 32)``. Name the
# shapes of the weight, the bias, the output, and the gradient of the weight.
#
# .. dropdown:: Answer
#
#    (32, 10), (32,), (64, 32) and (32, 10). A gradient always has the shape of its
#    parameter.
#
# **2.** Why does the bias of shape (8,) have a gradient of shape (8,), although it was
# added to an array of shape (4, 8)?
#
# .. dropdown:: Answer
#
#    Broadcasting repeats the bias for each of the four points. The gradients of the four
#    paths add up: the gradient of the bias is the sum over the batch.
#
# **3.** With batches of 1, is the factor also several hundred?
#
# .. dropdown:: Answer
#
#    No. In the last picture the distance between the curves at 1 is about a factor of
#    two to five: a batch of one pays for the objects, too.
#
# The network reads numbers. The next pages make it read text, and begin with the
# question how text becomes numbers: :doc:`plot_05_tokens`.
