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

import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array, Shape, unbroadcast
from axone.autograd.deferred import Deferred
from axone.autograd.memory import empty, empty_like

Gradient: TypeAlias = Array | Deferred | None
"""What a `vjp` returns for one input: an array, a recipe for one, or None where no gradient flows."""

VJP: TypeAlias = Callable[[Array], Sequence[Gradient]]
"""A vector-Jacobian product: from the gradient of an operation's output to those of its inputs."""

ndarray = np.ndarray

# An operation is younger than its inputs, so the order of creation is a topological order of every graph.
next_index = itertools.count().__next__
_by_age = attrgetter("index")


@final
class Leaf:
    """Where the graph ends: the place of a Tensor that the user made, with the gradient that arrives there.

    The Tensor holds its Leaf and the Leaf not the Tensor, so that nothing is held in a circle. A Leaf that anything
    else holds belongs to a graph, which may still need the Tensor's values: in-place writes ask for that.
    """

    __slots__ = ("data", "gradient", "is_void", "is_zero", "wanted")

    data: Array  # the Tensor's when it was last recorded, as is `wanted`
    wanted: bool  # whether the Tensor requires a gradient

    def __init__(self) -> None:
        self.gradient: Array | None = None
        self.is_zero = False  # zero throughout: the next gradient may overwrite it instead of being added
        self.is_void = False  # zero, but not yet written as such

    @property
    def shape(self) -> Shape:
        """The shape of the Tensor."""
        return self.data.shape

    def accumulate(self, part: Array | Deferred, arrived: Array) -> None:
        """Add a gradient to what is there: a recipe is carried out in place, an array that is not ours is copied.

        Parameters
        ----------
        part : ndarray or Deferred
            What the `vjp` returned.
        arrived : ndarray
            What the `vjp` was given.

        Raises
        ------
        TypeError
            If the gradient is complex.
        """
        if not self.wanted:
            return
        total, data = self.gradient, self.data
        if isinstance(part, Deferred):
            refuse_complex(arrived)
            if total is None:
                self.gradient = total = np.empty(data.shape, data.dtype)
                part.write(total)
            elif self.is_zero:
                part.write(total)
            else:
                part.add(total)
        else:
            fits = part.shape == data.shape
            reduced = part if fits else unbroadcast(part, data.shape)
            if total is None:
                if reduced.dtype is data.dtype and type(reduced) is ndarray:
                    self.gradient = reduced.copy() if fits else reduced
                else:
                    refuse_complex(reduced)
                    self.gradient = np.array(reduced, data.dtype, order="C")
                return
            if reduced.dtype is not data.dtype:
                refuse_complex(reduced)
            if self.is_zero:
                total[...] = reduced
            else:
                total += reduced
        self.is_zero = self.is_void = False


@final
class Node:
    """One recorded operation."""

    __slots__ = ("__weakref__", "index", "inputs", "name", "shape", "vjp")

    index: int
    name: str
    shape: Shape
    inputs: Sequence[Node | Leaf | None]
    vjp: VJP | None  # None once a backward has been through

    @property
    def consumed(self) -> bool:
        """Whether a backward has been through it."""
        return self.vjp is None


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
        The gradients of `wanted` that were reached. They may share memory.

    Raises
    ------
    RuntimeError
        If a backward has already been through part of the graph. Nothing has been changed then.
    ValueError
        If a `vjp` returns what does not fit its inputs.
    """
    collected: dict[Node | Leaf, Array] = {}
    if isinstance(root, Leaf):
        if not wanted:
            root.accumulate(gradient, gradient)
        elif root in wanted:
            collected[root] = gradient
        return collected
    totals: dict[Node | Leaf, Array] = {root: gradient}
    ours: set[Node | Leaf] = set()  # whose total was allocated here
    for node in _reachable(root):
        vjp, inputs = node.vjp, node.inputs
        node.vjp, node.inputs = None, ()  # memory falls as the walk goes on
        arrived = totals.pop(node, None)
        if arrived is None or vjp is None:  # every path to it was cut by a None
            continue
        if wanted and node in wanted:
            collected[node] = arrived
        parts = vjp(arrived)
        if len(parts) != len(inputs):
            raise ValueError(
                f"the vjp of {node.name!r} must return a gradient or None for each of its {len(inputs)} inputs, "
                f"and returned {len(parts)}"
            )
        try:
            for source, part in zip(inputs, parts):
                if part is None or source is None:
                    continue
                if type(source) is Node:
                    if source in totals or isinstance(part, Deferred) or part.shape != source.shape:
                        _add(source, part, totals, ours, arrived.dtype)
                    else:
                        totals[source] = part  # the usual case
                elif not wanted:
                    source.accumulate(part, arrived)
                elif source in wanted:
                    _add(source, part, collected, ours, arrived.dtype)
        except ValueError as error:
            raise ValueError(f"the vjp of {node.name!r} returned {error}") from error
        del vjp, parts, arrived  # and what they hold, before the next product allocates
    return collected


def default_gradient(result: Array) -> Array:
    """Return the gradient of a single number with respect to itself, not to be written to.

    Raises
    ------
    TypeError
        If the result is complex.
    ValueError
        If the result is not a single number.
    """
    if result.ndim == 0:
        return _one(result.dtype)
    if result.size == 1:
        refuse_complex(result)
        return np.ones_like(result)
    raise ValueError(
        f"backward without a gradient needs a single number, and this Tensor has shape {result.shape}: reduce it "
        "first, for instance with sum(), or give backward(gradient)"
    )


@functools.lru_cache
def _one(dtype: np.dtype[Any]) -> Array:
    number: Array = np.ones((), dtype)
    refuse_complex(number)
    number.flags.writeable = False
    return number


def checked_gradient(result: Array, gradient: ArrayLike) -> Array:
    """Return a gradient that the user gave as an array.

    Raises
    ------
    TypeError
        If the result is complex.
    ValueError
        If the gradient has another shape than the result.
    """
    refuse_complex(result)
    array: Array = np.asarray(gradient, result.dtype)
    if array.shape != result.shape:
        raise ValueError(f"the gradient must have the Tensor's shape {result.shape}, and it has {array.shape}")
    return array


def refuse_complex(array: Array) -> None:
    """Raise a `TypeError` if numbers are complex: gradients are real."""
    if array.dtype.kind == "c":
        raise TypeError(
            f"backward needs real numbers, got {array.dtype} of shape {array.shape}: compute with the real and the "
            "imaginary part as separate Tensors"
        )


def _add(
    place: Node | Leaf,
    part: Array | Deferred,
    totals: dict[Node | Leaf, Array],
    ours: set[Node | Leaf],
    dtype: np.dtype[Any],
) -> None:
    """Add a gradient to what has arrived at a place; in place only if the total there was allocated here."""
    total = totals.get(place)
    if isinstance(part, Deferred):
        if total is None:
            total = empty(place.shape, dtype)
            part.write(total)
        else:
            total = total if place in ours else total.copy()
            part.add(total)
        ours.add(place)
    else:
        reduced = part if part.shape == place.shape else unbroadcast(part, place.shape)
        if total is None:
            total = reduced
        elif place in ours:
            total += reduced
        else:  # the first is not ours: `add` returns the same array for both of its inputs
            total = np.add(total, reduced, out=empty_like(total))
            ours.add(place)
    totals[place] = total


def _reachable(root: Node) -> list[Node]:
    """Return every node that a gradient from `root` can reach, youngest first: each before its inputs."""
    seen = {root}
    order = [root]
    for node in order:  # which grows
        if node.vjp is None:
            raise RuntimeError(
                f"backward goes through a graph once, and {node.name!r} of shape {node.shape} has already been "
                "passed: compute the output again, or add up the losses and call backward on their sum"
            )
        for source in node.inputs:
            if type(source) is Node and source not in seen:
                seen.add(source)
                order.append(source)
    if len(order) > 1:
        order.sort(key=_by_age, reverse=True)
    return order
