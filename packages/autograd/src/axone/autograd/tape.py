"""The tape: a graph of recorded operations, and the walk back through it.

Each recorded operation is a `Node` that knows the nodes of its inputs and its vector-Jacobian product: the function
that turns the gradient of its output into the gradients of its inputs. Where the graph ends in a Tensor that the user
made, a `Leaf` stands. Nodes point at nodes and never at Tensors, so an intermediate array lives only as long as a
vector-Jacobian product holds it.

Nothing here knows what a Tensor is; `tensor.py` builds on it.

References
----------
.. [1] A. G. Baydin et al., "Automatic Differentiation in Machine Learning: a Survey",
   https://arxiv.org/abs/1502.05767
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Protocol, TypeAlias

import numpy as np

from axone.autograd.arrays import Array, Shape, unbroadcast

VJP: TypeAlias = Callable[[Array], Sequence[Array | None]]

# An operation is younger than its inputs, so the order of creation is a topological order of every graph.
_next_index = itertools.count().__next__
_by_age = attrgetter("index")


class Owner(Protocol):
    """What a leaf delivers its gradient to."""

    data: Array
    grad: Array | None


class Leaf:
    """Where the graph ends: a Tensor made by the user.

    The Tensor holds its Leaf weakly and the graph holds it strongly, so a living Leaf says that some recorded operation
    still needs the Tensor. `owner` is None where no gradient is wanted.
    """

    __slots__ = ("__weakref__", "index", "owner", "shape")

    def __init__(self, owner: Owner | None, shape: Shape) -> None:
        self.index = -1  # older than every operation, so all gradients have arrived when a walk reaches it
        self.owner = owner
        self.shape = shape

    def accumulate(self, gradient: Array, *, fresh: bool) -> None:
        """Add a gradient to the owner's; the engine owns `gradient` if it is `fresh`, and else copies it."""
        owner = self.owner
        if owner is None:
            return
        if owner.grad is not None:
            owner.grad += gradient
        elif fresh and gradient.dtype == owner.data.dtype:
            owner.grad = gradient
        else:
            owner.grad = np.array(gradient, dtype=owner.data.dtype)


class Node:
    """One recorded operation."""

    __slots__ = ("__weakref__", "index", "inputs", "name", "shape", "vjp")

    def __init__(self, name: str, shape: Shape, inputs: tuple[Node | Leaf | None, ...], vjp: VJP) -> None:
        self.index = _next_index()
        self.name = name
        self.shape = shape
        self.inputs = inputs
        self.vjp: VJP | None = vjp

    @property
    def consumed(self) -> bool:
        """Whether a backward has been through it."""
        return self.vjp is None

    def consume(self) -> tuple[VJP, tuple[Node | Leaf | None, ...]]:
        """Hand out the product and the inputs, once: memory falls as the walk goes on."""
        vjp, inputs = self.vjp, self.inputs
        if vjp is None:
            raise _consumed(self)
        self.vjp, self.inputs = None, ()
        return vjp, inputs


def backward(root: Node | Leaf, gradient: Array, wanted: Collection[Node | Leaf] = ()) -> dict[Node | Leaf, Array]:
    """Walk from `root` back to the leaves, consuming the graph.

    Parameters
    ----------
    root : Node or Leaf
        Where to start.
    gradient : ndarray
        The gradient of the result with respect to the output of `root`, of its shape. Never written to.
    wanted : collection of Node or Leaf
        If given, the gradients of these are returned and no leaf's owner gets any.

    Returns
    -------
    dict
        The gradients of `wanted` that were reached.

    Raises
    ------
    RuntimeError
        If a backward has already been through part of the graph. Nothing has been changed then.
    """
    order = _reachable(root)
    collected: dict[Node | Leaf, Array] = {}
    gradients: dict[Node | Leaf, Array] = {root: gradient}
    fresh: set[Node | Leaf] = set()  # whose gradient was allocated here, by adding two
    while order:
        node = order.pop()
        arrived = gradients.pop(node, None)
        if arrived is None:  # every path to it was cut by a None
            if isinstance(node, Node):
                node.consume()
            continue
        if wanted and node in wanted:
            collected[node] = arrived if node in fresh else arrived.copy()
        if isinstance(node, Leaf):
            if not wanted:
                node.accumulate(arrived, fresh=node in fresh)
            continue
        vjp, inputs = node.consume()
        for source, part in zip(inputs, vjp(arrived)):
            if source is None or part is None:
                continue
            reduced = part if part.shape == source.shape else unbroadcast(part, source.shape)
            previous = gradients.get(source)
            if previous is None:
                gradients[source] = reduced
            elif source in fresh:
                previous += reduced
            else:  # the first is not ours: `add` returns the same array for both of its inputs
                gradients[source] = previous + reduced
                fresh.add(source)
    return collected


def _reachable(root: Node | Leaf) -> list[Node | Leaf]:
    """Return every node that a gradient from `root` can reach, oldest first."""
    seen: set[Node | Leaf] = {root}
    stack: list[Node | Leaf] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Leaf):
            continue
        if node.vjp is None:
            raise _consumed(node)
        for source in node.inputs:
            if source is not None and source not in seen:
                seen.add(source)
                stack.append(source)
    return sorted(seen, key=_by_age)


def _consumed(node: Node) -> RuntimeError:
    return RuntimeError(
        f"backward goes through a graph once, and {node.name!r} of shape {node.shape} has already been passed: "
        "compute the output again, or add up the losses and call backward on their sum"
    )
