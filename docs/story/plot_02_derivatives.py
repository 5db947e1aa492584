r"""
2. Derivatives
==============

Page 1 measured one slope after the other. This page computes all slopes of a formula
in one pass, whatever the formula is. The method is called *backpropagation*. Every
neural network is trained with it.
"""

# %%
# A formula as a graph
# --------------------
#
# A formula of three steps is enough to see everything:
#
# .. math:: e = a \cdot b \qquad d = c + e \qquad L = d \cdot f
#
# A :class:`~axone.autograd.Value` is a number that stores how it was computed.
# :func:`~axone.autograd.draw` draws this as a *graph*. Each box, a *node*, is a number.
# Arrows lead from the inputs of a step to its result, from left to right.

import math

from axone.autograd import Value, draw

a, b, c, f = Value(2.0), Value(-3.0), Value(10.0), Value(-2.0)
e = a * b
d = c + e
L = d * f

names = {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, "L": L}
draw(L, names=names)

# %%
# The numbers flow from left to right: :math:`e = 2 \cdot (-3) = -6`, then
# :math:`d = 10 - 6 = 4`, then :math:`L = 4 \cdot (-2) = -8`. This is the *forward
# pass*. The gradients are still zero, because nothing has computed them.
#
# The question is: how does :math:`L` change if we nudge any of the other numbers?
#
# Local derivatives
# -----------------
#
# Look at one step alone. :math:`L = d \cdot f` with :math:`d = 4` and
# :math:`f = -2`. If :math:`d` grows by a tiny :math:`h`, then :math:`L` becomes
# :math:`(d + h) f = d f + h f`: it changes by :math:`h` times :math:`f`. So the
# derivative with respect to :math:`d` is :math:`f`. Such a derivative of one step, with
# respect to its direct inputs, is a *local derivative*. Two rules suffice here:
#
# * In a **product**, the local derivative of one factor is the other factor.
# * In a **sum**, the local derivative of each term is 1.
#
# .. list-table:: All local derivatives of the formula
#    :header-rows: 1
#    :widths: 22 44 34
#
#    * - Step
#      - Local derivatives
#      - With numbers
#    * - :math:`L = d \cdot f`
#      - :math:`\frac{\partial L}{\partial d} = f`,
#        :math:`\;\frac{\partial L}{\partial f} = d`
#      - -2 and 4
#    * - :math:`d = c + e`
#      - :math:`\frac{\partial d}{\partial c} = 1`,
#        :math:`\;\frac{\partial d}{\partial e} = 1`
#      - 1 and 1
#    * - :math:`e = a \cdot b`
#      - :math:`\frac{\partial e}{\partial a} = b`,
#        :math:`\;\frac{\partial e}{\partial b} = a`
#      - -3 and 2
#
# Chain rule
# ----------
#
# :math:`c` does not touch :math:`L` directly. It changes :math:`d`, and :math:`d`
# changes :math:`L`. If :math:`c` grows by :math:`h`, then :math:`d` grows by
# :math:`1 \cdot h`, and therefore :math:`L` by :math:`-2 \cdot 1 \cdot h`. Along a
# path, local derivatives are **multiplied**. This is the *chain rule*:
#
# .. math::
#
#    \frac{\partial L}{\partial c} =
#    \frac{\partial L}{\partial d} \cdot \frac{\partial d}{\partial c} = -2 \cdot 1 = -2
#
# :math:`e` is the other term of the same sum, so its derivative is found in the same
# way. The next step back needs it:
#
# .. math::
#
#    \frac{\partial L}{\partial e} =
#    \frac{\partial L}{\partial d} \cdot \frac{\partial d}{\partial e} = -2 \cdot 1 = -2
#    \qquad
#    \frac{\partial L}{\partial a} =
#    \frac{\partial L}{\partial e} \cdot \frac{\partial e}{\partial a} =
#    -2 \cdot (-3) = 6
#
# We do not start from :math:`L` for every letter. The derivative of :math:`e` is
# already known when :math:`a` and :math:`b` need it:
# **each number receives a gradient from its result, multiplies it by its local
# derivatives, and passes the products to its inputs.** This goes from right to left,
# and is the *backward pass*. Page 1 called the list of all slopes the gradient. From
# here on, "the gradient of a number" is its entry in this list: the derivative of the
# final result with respect to this number.

L.backward()
draw(L, names=names)

# %%
# Forward and backward pass side by side. Read the first three columns downward, and the
# last two upward: L, f, d, c, e, b, a is one of several orders that are allowed.

steps = [
    ("a", "given", a, "dL/de * b"),
    ("b", "given", b, "dL/de * a"),
    ("e", "a * b", e, "dL/dd * 1"),
    ("c", "given", c, "dL/dd * 1"),
    ("d", "c + e", d, "dL/dL * f"),
    ("f", "given", f, "dL/dL * d"),
    ("L", "d * f", L, "1"),
]
print("name  forward   data    gradient  backward")
for name, forward, value, rule in steps:
    print(f"{name:5} {forward:7} {value.data:6g} {value.grad:11g}  {rule}")

# %%
# Check one of them as on page 1, with a nudge: 6 is expected for ``a``.

nudge = 1e-6
nudged = (10.0 + (2.0 + nudge) * -3.0) * -2.0
print(f"dL/da by a nudge: {(nudged - -8.0) / nudge:.4f}")

# %%
# The nudge needs a forward pass per input. The backward pass visits each step once, and
# then has **all** gradients. For the 124 million parameters of GPT-2 this is the
# difference between a second or two and more than a year.
#
# Several paths
# -------------
#
# A number may be used more than once. Then it changes the result along several paths,
# and the products of the paths **add up**. Here ``x`` reaches ``y`` directly and
# through ``s``:
#
# .. math::
#
#    s = x \cdot x \qquad y = s + x \qquad
#    \frac{\partial y}{\partial x} = 2x + 1 = 7 \text{ for } x = 3

x = Value(3.0)
s = x * x
y = s + x
y.backward()
draw(y, names={"x": x, "s": s, "y": y})

# %%
# Now the order matters. ``x`` gets gradients from ``s`` twice and from ``y`` once.
# ``s`` may pass its gradient to ``x`` only after it has received its own from ``y``. In
# general: a number is visited after everything that uses it. An order that respects
# this is called a *topological order*, and here it is simple to find: put the inputs of
# a number before the number itself; then go through the list from the end.


class Step:
    """A number, the numbers that it was computed from, and local derivatives."""

    def __init__(
        self,
        data: float,
        inputs: tuple["Step", ...] = (),
        local: tuple[float, ...] = (),
    ) -> None:
        self.data, self.inputs, self.local = data, inputs, local
        self.grad = 0.0

    def __add__(self, other: "Step") -> "Step":
        return Step(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: "Step") -> "Step":
        return Step(self.data * other.data, (self, other), (other.data, self.data))


def inputs_first(step: Step, order: list[Step]) -> list[Step]:
    """Append all steps that lead to a step, each after its inputs."""
    if step not in order:
        for source in step.inputs:
            inputs_first(source, order)
        order.append(step)
    return order


def backward(result: Step) -> None:
    """Compute all gradients: in topological order, from the result."""
    result.grad = 1.0
    for step in reversed(inputs_first(result, [])):
        for source, slope in zip(step.inputs, step.local):
            source.grad += slope * step.grad


x2 = Step(3.0)
s2 = x2 * x2
y2 = s2 + x2
backward(y2)
labels = {x2: "x", s2: "s", y2: "y"}
order = [labels[step] for step in inputs_first(y2, [])]
print("inputs first:", " ".join(order), " backward:", " ".join(reversed(order)))
print(f"gradient of x: {x2.grad:g} by ours, {x.grad:g} by Value")

# %%
# That is the whole method: about thirty lines, and the real
# :class:`~axone.autograd.Value` is not much longer. It adds the other operations, each
# with its local derivative, and a list instead of recursion so that a graph may be a
# million steps deep.
#
# ``+=`` in ``backward`` adds up the paths. It also means that a second backward pass
# adds to the first. So a training loop sets the gradients to zero before each pass.
#
# The neuron, again
# -----------------
#
# The neuron of page 1 is such a formula, too. Its activation is
# :math:`\tanh(x) = s / c` with :math:`s = e^x - e^{-x}` and :math:`c = e^x + e^{-x}`.
# The derivative of :math:`s` is :math:`c`, and that of :math:`c` is :math:`s`. By the
# quotient rule the local derivative is
#
# .. math:: \frac{c \cdot c - s \cdot s}{c^2} = 1 - \tanh^2(x)

w1, w2, bias = Value(0.5), Value(-1.0), Value(0.25)
output = (w1 * 2.0 + w2 * 0.5 + bias).tanh()
output.backward()
draw(output, names={"w1": w1, "w2": w2, "bias": bias})

# %%
# The gradient of ``w1`` is four times that of ``w2``, because its input is four times
# as large: 2.0 and 0.5. A weight matters as much as its input.
#
# And here is the taxi of page 1, trained with one backward pass per step. It finds the
# same line: 2.03 euros per kilometre and 2.67 at the start.

distances = [1.0, 1.5, 2.2, 3.0, 4.1, 5.0, 6.2, 7.0]
prices = [4.9, 5.2, 7.6, 8.6, 11.3, 12.2, 15.6, 16.8]
weight, base, loss = Value(1.0), Value(0.0), Value(0.0)
for _ in range(1000):
    loss = Value(0.0)
    for distance, price in zip(distances, prices):
        loss += (weight * distance + base - price) ** 2 / len(prices)
    weight.grad = base.grad = 0.0
    loss.backward()
    weight.data -= 0.02 * weight.grad
    base.data -= 0.02 * base.grad

print(f"w = {weight.data:.3f}, b = {base.data:.3f}, loss {loss.data:.3f}")

# %%
# Exercises
# ---------
#
# **1.** Write down the gradients of ``a``, ``b`` and ``c`` of the first formula if
# ``f`` is 3 instead of -2.
#
# .. dropdown:: Answer
#
#    The gradient of ``d`` is now 3, and so is that of ``c`` and ``e``. For ``a`` it is
#    3 times -3, which is -9; for ``b`` it is 3 times 2, which is 6.
#
# **2.** In ``y = s + x`` with ``s = x * x``, what gradient would ``x`` get if the
# backward pass visited ``s`` before ``y``?
#
# .. dropdown:: Answer
#
#    ``s`` would pass on its gradient before it has one: zero, times 3, twice. Then ``y``
#    passes 1 to ``x``. The result would be 1 instead of 7.
#
# **3.** If a gradient is 6 and we lower its number by 0.01, how does :math:`L` change?
#
# .. dropdown:: Answer
#
#    By about -0.06. For ``a`` of the first formula it is exact: ``a = 1.99`` gives
#    ``e = -5.97``, ``d = 4.03`` and ``L = -8.06``.
#
# **4.** Derive the local derivative of ``exp``, and check it with a Value.
#
# .. dropdown:: Answer
#
#    The exponential function is its own derivative, so the local derivative is the
#    result. The next line of the page checks it at 1: both are 2.7183.

z = Value(1.0)
z.exp().backward()
print(f"{z.grad:.4f} {math.exp(1.0):.4f}")

# %%
# One neuron separates the plane by a straight line. The next page connects many of
# them, and they bend it: :doc:`plot_03_network`.
