r"""
1. One neuron
=============

A neuron is a small formula with numbers that can be adjusted. To *learn* is to adjust
them until the formula fits examples. This page does it by hand, for one neuron. All
later models, up to the language model of page 8, learn in the same way, with more
numbers.
"""

# %%
# Examples
# --------
#
# Eight taxi rides: the distance of each, and its price. We want a formula that gives
# the price of a ride of any distance.

import matplotlib.pyplot as plt
import numpy as np

from axone.nn.scalar import Neuron

distance = np.array([1.0, 1.5, 2.2, 3.0, 4.1, 5.0, 6.2, 7.0])  # (8,) in km
price = np.array([4.9, 5.2, 7.6, 8.6, 11.3, 12.2, 15.6, 16.8])  # (8,) in euros

fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
axis.scatter(distance, price, color="tab:orange", zorder=3)
for w, b, style in [(1.0, 6.0, ":"), (3.0, 1.0, "--"), (2.0, 2.8, "-")]:
    axis.plot([0, 8], [b, 8 * w + b], "k" + style, label=f"y = {w:g} x + {b:g}")
axis.set(
    xlabel="distance x in km",
    ylabel="price y in euros",
    xlim=(0, 8),
    ylim=(0, 20),
)
axis.legend()
plt.show()

# %%
# The points lie close to a line, but not on it: there is traffic. Three lines are
# drawn. Each follows the same formula, with other numbers in it:
#
# .. math:: y = w x + b
#
# This is a *neuron* with one input. The number :math:`x` is its *input* and :math:`y`
# its *output*. The *weight* :math:`w` is the steepness of the line: the price of one
# more kilometre. The *bias* :math:`b` is the height at which the line begins: the price
# of a ride of zero kilometres. Weights and biases together are the *parameters*, the
# numbers that learning adjusts. A formula with parameters is a *model*.
#
# In Python a neuron is one line:


def neuron(x: float, w: float, b: float) -> float:
    """Return the output of a neuron."""
    return w * x + b


print(f"3 km with w = 2 and b = 2.8: {neuron(3.0, 2.0, 2.8):.1f} euros")

# %%
# Loss
# ----
#
# Which line is best? We need one number that says how wrong a line is. For each
# example, take the difference between the neuron's output and the true price, the
# *target*, and square it, so that too high and too low both count. The mean of the
# squares is the *loss*:
#
# .. math:: L = \frac{1}{N} \sum_{i=1}^{N} (w x_i + b - t_i)^2
#
# :math:`N` is the number of examples, here 8, and :math:`t_i` is the target of
# example :math:`i`. The sign :math:`\sum` means: add up over all examples. A loss of
# zero would be a line through all points.


def loss(w: float, b: float) -> float:
    """Return the mean squared error of a line."""
    squares = [(neuron(x, w, b) - t) ** 2 for x, t in zip(distance, price)]
    return float(sum(squares) / len(squares))


for w, b in [(1.0, 6.0), (3.0, 1.0), (2.0, 2.8)]:
    print(f"w = {w:g}, b = {b:g}: loss {loss(w, b):6.3f}")

# %%
# The third line is the best of the three, as the eye says.
#
# Slope
# -----
#
# Hold the bias at 2.8 and try many weights. The loss is a bowl:

weights = np.linspace(0.5, 3.5, 61)  # (61,)
bowl = [loss(w, 2.8) for w in weights]

fig, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
axis.plot(weights, bowl, "k")
for w in (1.0, 2.8):
    slope = (loss(w + 1e-6, 2.8) - loss(w, 2.8)) / 1e-6
    ends = np.array([w - 0.25, w + 0.25])  # (2,)
    label = f"w = {w:g}: slope {slope:.1f}"
    axis.plot(ends, loss(w, 2.8) + slope * (ends - w), lw=3, label=label)
axis.set(xlabel="weight w", ylabel="loss", ylim=(-3, 45))
axis.legend()
plt.show()

# %%
# At the bottom of the bowl is the best weight. To find the way down from any point,
# we need the *slope* there: how much the loss changes per unit of the weight. The
# coloured lines have the slope of the bowl at two weights. Left of the bottom the
# slope is negative: a larger weight lowers the loss. Right of it, it is positive: a
# smaller weight lowers the loss. So in both cases: **move against the slope**.
#
# The slope can be measured. Change the weight by a tiny amount, a *nudge*, and see by
# how much the loss changes:

nudge = 1e-6
w, b = 1.0, 0.0
slope_w = (loss(w + nudge, b) - loss(w, b)) / nudge
slope_b = (loss(w, b + nudge) - loss(w, b)) / nudge
print(f"slope of w: {slope_w:.2f}, slope of b: {slope_b:.2f}")

# %%
# A slope like this, of one number with respect to another, is called a *derivative*,
# and is written :math:`\partial L / \partial w`. All slopes of the loss together, one
# for each parameter, are the *gradient*.
#
# Learning
# --------
#
# Now repeat one small step: measure both slopes, and move each parameter a little
# against its slope. "A little" is a factor that we choose, the *learning rate*. This
# method is *gradient descent*.

learning_rate = 0.02
path = [(w, b)]
for _ in range(1000):
    slope_w = (loss(w + nudge, b) - loss(w, b)) / nudge
    slope_b = (loss(w, b + nudge) - loss(w, b)) / nudge
    w -= learning_rate * slope_w
    b -= learning_rate * slope_b
    path.append((w, b))

print(f"w = {w:.3f}, b = {b:.3f}, loss {loss(w, b):.3f}")
print(f"a ride of 10 km: {neuron(10.0, w, b):.2f} euros")

# %%
# The best line costs 2.03 euros per kilometre and begins at 2.67. The picture shows the
# way there: the line after a few steps, and the loss at each step. The first steps are
# large because the bowl is steep; the last ones are small.

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
left.scatter(distance, price, color="tab:orange", zorder=3)
for step, shade in [(0, "0.8"), (1, "0.65"), (2, "0.5"), (1000, "0")]:
    w_then, b_then = path[step]
    left.plot(
        [0, 8],
        [b_then, 8 * w_then + b_then],
        color=shade,
        label=f"step {step}",
    )
left.set(xlabel="distance in km", ylabel="price in euros")
left.legend()
right.semilogy([loss(*parameters) for parameters in path], "k")
right.set(xlabel="step", ylabel="loss")
plt.show()

# %%
# Several inputs
# --------------
#
# A neuron may have many inputs: the distance, the hour, the number of bags. Each input
# has a weight of its own, and the products are added up:
#
# .. math:: y = w_1 x_1 + w_2 x_2 + \dots + w_n x_n + b
#
# Some questions have an answer that is not a price but a side: yes or no. Then the sum
# passes through a curve that ends in two flat parts, for example *tanh* (the
# hyperbolic tangent). It keeps the output between -1 and 1. Such a curve is called an
# *activation*.
#
# .. math:: y = \tanh(w_1 x_1 + w_2 x_2 + b)

# axone's neuron has random weights at first, from the source `rng`. Set ours:
# `parameters()` lists the weights and the bias, and `data` is the number of each.
yes_or_no = Neuron(2, activation="tanh", rng=np.random.default_rng(0))
for parameter, number in zip(yes_or_no.parameters(), [1.0, 1.5, -0.5]):
    parameter.data = number

side = np.linspace(-2, 2, 41)  # (41,)
outputs = np.array([[yes_or_no([x, y]).data for x in side] for y in side])  # (41, 41)

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
sums = np.linspace(-4, 4, 100)  # (100,)
left.plot(sums, np.tanh(sums), "k")
left.set(xlabel="weighted sum", ylabel="output", title="tanh")
shade = right.pcolormesh(side, side, outputs, vmin=-1, vmax=1, cmap="RdBu_r")
right.contour(side, side, outputs, levels=[0.0], colors="black")
right.set(xlabel="$x_1$", ylabel="$x_2$", title="output for two inputs")
fig.colorbar(shade)
plt.show()

# %%
# Right: the output for each pair of inputs. On the black line the weighted sum is
# zero. Red is +1, "yes"; blue is -1, "no". With two inputs, one neuron separates the
# plane by a straight line. The weights turn the line, and the bias moves it.
#
# Exercises
# ---------
#
# **1.** Compute the loss of ``w = 2, b = 3`` for only two rides, (1 km, 4.9 euros) and
# (7 km, 16.8 euros), on paper.
#
# .. dropdown:: Answer
#
#    The outputs are 5 and 17. The differences are 0.1 and 0.2, their squares 0.01 and
#    0.04, and the mean is 0.025.
#
# **2.** Set the learning rate to 0.06 and run the script again. Why does the loss grow?
#
# .. dropdown:: Answer
#
#    Each step jumps over the bottom of the bowl and lands higher on the other side,
#    where the slope is larger, so the next jump is longer. The largest rate that works
#    here is about 0.05. Page 3 returns to this.
#
# **3.** How many evaluations of the loss does one step of a neuron with 1,000 inputs
# take, if every slope is measured by a nudge?
#
# .. dropdown:: Answer
#
#    1,001 parameters (1,000 weights and a bias), and one evaluation per parameter, plus
#    one without a nudge: 1,002. GPT-2, a language model of 2019, has 124 million
#    parameters.
#
# The last answer is the problem of this page: nudging is too slow. The next page
# computes all slopes at once: :doc:`plot_02_derivatives`.
