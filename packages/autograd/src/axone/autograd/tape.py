"""The tape: a graph of recorded operations, and the backward pass through it.

Each recorded operation is a `Node` that holds the nodes of its inputs and its vector-Jacobian product: the function
that maps the gradient of its output to the gradients of its inputs. A `Leaf` represents a Tensor that the user made.
Nodes refer to nodes and never to Tensors, so an intermediate array lives only as long as a vector-Jacobian product
holds it.

This module does not import Tensor; `tensor.py` builds on it.

References
----------
.. [1] A. G. Baydin et al., "Automatic Differentiation in Machine Learning: a Survey",
   https://arxiv.org/abs/1502.05767
"""

from __future__ import annotations

import functools
import gc
import itertools
import sys
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd.arrays import Array, Shape, unbroadcast
from axone.autograd.deferred import Deferred
from axone.autograd.memory import empty, empty_like

Gradient: TypeAlias = Array | Deferred | None
"""The gradient that a `vjp` returns for one input: an array, a deferred gradient, or None if no gradient flows."""

VJP: TypeAlias = Callable[[Array], Sequence[Gradient]]
"""A vector-Jacobian product: maps the gradient of an operation's output to those of its inputs."""

ndarray = np.ndarray

# An operation is younger than its inputs, so the order of creation is a topological order of every graph.
next_index = itertools.count().__next__
_by_age = attrgetter("index")


@final
class Leaf:
    """A Tensor that the user made, as an end of the graph: it accumulates the gradients that the Tensor receives.

    The Tensor holds its Leaf and the Leaf does not hold the Tensor, so that there is no reference cycle. Further
    references to a Leaf come from graphs, which may still need the Tensor's values: in-place writes check for them.

    ========  =========  ====================================================================================
    is_zero   is_stale   `gradient`
    ========  =========  ====================================================================================
    False     False      is the accumulated gradient; the next one is added
    True      False      is filled with zeros; the next gradient overwrites it, which saves reading it
    True      True       counts as zero but holds old numbers; the next gradient overwrites it, reading it fills it
    ========  =========  ====================================================================================
    """

    __slots__ = ("data", "gradient", "is_stale", "is_zero", "requires_grad")

    data: Array  # the Tensor's when it was last recorded
    requires_grad: bool  # likewise

    def __init__(self) -> None:
        self.gradient: Array | None = None
        self.is_zero = False
        self.is_stale = False

    @property
    def shape(self) -> Shape:
        """The shape of the Tensor."""
        return self.data.shape

    def accumulate(self, part: Array | Deferred, received: Array) -> None:
        """Add a gradient to the sum: a deferred one is computed in place, an array of the caller's is copied.

        Parameters
        ----------
        part : ndarray or Deferred
            The gradient, as the `vjp` returned it.
        received : ndarray
            The gradient that the `vjp` was given.

        Raises
        ------
        TypeError
            If the gradient is complex.
        """
        if not self.requires_grad:
            return
        total, data = self.gradient, self.data
        if isinstance(part, Deferred):
            refuse_complex(received)
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
        self.is_zero = self.is_stale = False


def graph_references(leaf: Leaf) -> int:
    """Return how many recorded operations that no backward pass has consumed hold a Leaf.

    On CPython that is the reference count, minus the references of the Tensor and of this call. On a Python that does not
    count references, the garbage collector searches for the lists in which `record` keeps the inputs of an operation.
    """
    if _is_counted:
        return _count_references(leaf) - _not_of_graphs
    return sum(type(holder) is list for holder in gc.get_referrers(leaf))


_count_references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)
_is_counted, _not_of_graphs = True, 0
_holder = [Leaf()]
_not_of_graphs = graph_references(_holder[0])
_holder *= 3
_is_counted = graph_references(_holder[0]) == 2


@final
class Node:
    """One recorded operation."""

    __slots__ = ("__weakref__", "index", "inputs", "name", "shape", "vjp")

    index: int
    name: str
    shape: Shape
    inputs: Sequence[Node | Leaf | None]
    vjp: VJP | None  # None after a backward pass

    @property
    def consumed(self) -> bool:
        """Whether a backward pass has gone through it."""
        return self.vjp is None


def backward(root: Node | Leaf, gradient: Array, inputs: Collection[Node | Leaf] = ()) -> dict[Node | Leaf, Array]:
    """Propagate a gradient from `root` to the leaves, consuming the graph.

    Parameters
    ----------
    root : Node or Leaf
        The output of the graph.
    gradient : ndarray
        The gradient of the result with respect to the output of `root`, of its shape. Never written to.
    inputs : collection of Node or Leaf
        If given, return the gradients of these instead of accumulating any in a Leaf.

    Returns
    -------
    dict
        The gradients of those `inputs` that were reached. They may share memory.

    Raises
    ------
    RuntimeError
        If a backward pass has already consumed part of the graph. Nothing has been changed then.
    ValueError
        If a `vjp` returns gradients that do not fit its inputs.
    """
    collected: dict[Node | Leaf, Array] = {}
    if isinstance(root, Leaf):
        if not inputs:
            root.accumulate(gradient, gradient)
        elif root in inputs:
            collected[root] = gradient
        return collected
    totals: dict[Node | Leaf, Array] = {root: gradient}
    owned: set[Node | Leaf] = set()  # nodes whose total was allocated here
    for node in _reachable(root):
        vjp, sources = node.vjp, node.inputs
        node.vjp, node.inputs = None, ()  # memory falls during the pass
        received = totals.pop(node, None)
        if received is None or vjp is None:  # a None cut every path to it
            continue
        if inputs and node in inputs:
            collected[node] = received
        parts = vjp(received)
        if len(parts) != len(sources):
            raise ValueError(
                f"the vjp of {node.name!r} must return a gradient or None for each of its {len(sources)} inputs, "
                f"and returned {len(parts)}"
            )
        try:
            for source, part in zip(sources, parts):
                if part is None or source is None:
                    continue
                if type(source) is Node:
                    if source in totals or isinstance(part, Deferred) or part.shape != source.shape:
                        _add(source, part, totals, owned, received.dtype)
                    else:
                        totals[source] = part  # the usual case
                elif not inputs:
                    source.accumulate(part, received)
                elif source in inputs:
                    _add(source, part, collected, owned, received.dtype)
        except ValueError as error:
            raise ValueError(f"the vjp of {node.name!r} returned {error}") from error
        del vjp, parts, received  # free the arrays that they hold before the next product allocates
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
        f"backward of a Tensor of shape {result.shape} needs a gradient: reduce it to a single number, for instance with "
        "sum(), or call backward(gradient)"
    )


@functools.lru_cache
def _one(dtype: np.dtype[Any]) -> Array:
    number: Array = np.ones((), dtype)
    refuse_complex(number)
    number.flags.writeable = False
    return number


def checked_gradient(result: Array, gradient: ArrayLike) -> Array:
    """Return the user's gradient as an array.

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
        raise ValueError(f"gradient has shape {array.shape}, it must have the Tensor's shape {result.shape}")
    return array


def refuse_complex(array: Array) -> None:
    """Raise a `TypeError` if numbers are complex: gradients are real."""
    if array.dtype.kind == "c":
        raise TypeError(
            f"backward needs real numbers, got {array.dtype} of shape {array.shape}: compute with the real and the "
            "imaginary part as separate Tensors"
        )


def _add(
    vertex: Node | Leaf,
    part: Array | Deferred,
    totals: dict[Node | Leaf, Array],
    owned: set[Node | Leaf],
    dtype: np.dtype[Any],
) -> None:
    """Add a gradient to the total of a Node or Leaf; in place only if that array was allocated here."""
    total = totals.get(vertex)
    if isinstance(part, Deferred):
        if total is None:
            total = empty(vertex.shape, dtype)
            part.write(total)
        else:
            total = total if vertex in owned else total.copy()
            part.add(total)
        owned.add(vertex)
    else:
        reduced = part if part.shape == vertex.shape else unbroadcast(part, vertex.shape)
        if total is None:
            total = reduced
        elif vertex in owned:
            total += reduced
        else:  # a vjp may return one array for several inputs, as that of `add` does
            total = np.add(total, reduced, out=empty_like(total))
            owned.add(vertex)
    totals[vertex] = total


def _reachable(root: Node) -> list[Node]:
    """Return every Node that a gradient from `root` can reach, youngest first, so that each precedes its inputs."""
    seen = {root}
    order = [root]
    for node in order:  # the list grows during the loop
        if node.vjp is None:
            raise RuntimeError(
                f"backward has already consumed {node.name!r} of shape {node.shape}: compute the output again, or add up "
                "the losses and call backward on their sum"
            )
        for source in node.inputs:
            if type(source) is Node and source not in seen:
                seen.add(source)
                order.append(source)
    if len(order) > 1:
        order.sort(key=_by_age, reverse=True)
    return order
