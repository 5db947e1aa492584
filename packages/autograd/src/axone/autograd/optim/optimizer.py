"""What all optimizers share: parameter groups, learning rates, gradients set to zero, state that can be saved.

A group's options may differ from the constructor's, as in PyTorch. Elementwise optimizers update a parameter in
blocks: long enough that Python threads do not fight over the interpreter lock, short enough for the cache; a trainer
may hand the blocks of one flat parameter to several threads (`parallel`).

References
----------
.. [1] PyTorch, "torch.optim", https://pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array
from axone.autograd.tensor import Tensor

Group: TypeAlias = dict[str, Any]
"""``params``, a list of Tensors, and the options that hold for them: ``lr``, ``lr_scale``, ..."""

State: TypeAlias = dict[str, NDArray[Any]]
"""What an optimizer remembers, as named arrays, so that any array file can hold it."""

BLOCK = 1 << 18  # elements; see the module's docstring

T = TypeVar("T")


class ParallelMap(Protocol):
    """As the built-in ``map``, but may run the calls at once; it returns when all have ended."""

    def __call__(self, function: Callable[[T], None], items: Iterable[T], /) -> object:
        """Call `function` on each item."""


def sequential(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `function` on each item, one after the other: the ParallelMap of one thread."""
    for item in items:
        function(item)


class Optimizer(ABC):
    """The base of all optimizers.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them: ``{"params": [...], "lr": ...}``. A group's ``lr_scale`` multiplies the
        learning rate that `lr` sets.
    defaults : dict
        The options of a group that does not give its own.

    Raises
    ------
    ValueError
        If there is no parameter, one appears twice, or one does not require gradients.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        entries: list[Any] = list(params)
        given: Sequence[Mapping[str, Any]] = (
            entries if entries and isinstance(entries[0], Mapping) else [{"params": entries}]
        )
        self.groups: list[Group] = [
            {"lr_scale": 1.0, **defaults, **group, "params": list(group["params"])} for group in given
        ]
        everything = list(self.parameters())
        if not everything:
            raise ValueError("an optimizer needs at least one parameter, and got none")
        if len({id(p) for p in everything}) != len(everything):
            raise ValueError("each parameter may be given to an optimizer once, and one appears twice")
        for group in self.groups:
            unknown = set(group) - set(defaults) - {"params", "lr_scale"}
            if unknown:
                raise ValueError(f"a group's options are {sorted(defaults)}, and got {sorted(unknown)}")
        for i, p in enumerate(everything):
            if not p.requires_grad:
                raise ValueError(f"an optimizer needs parameters with requires_grad=True, and parameter {i} has not")
        self.steps = 0

    @property
    def lr(self) -> float:
        """The learning rate; setting it sets every group's, each times the group's ``lr_scale``."""
        return float(self.groups[0]["lr"] / self.groups[0]["lr_scale"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value * group["lr_scale"]

    def parameters(self) -> Iterator[Tensor]:
        """Yield the parameters of all groups, in order."""
        for group in self.groups:
            yield from group["params"]

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place: the arrays stay, and with them any buffer they are views of."""
        for p in self.parameters():
            p.zero_grad()

    @abstractmethod
    def step(self, *, parallel: ParallelMap = sequential) -> None:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        parallel : callable, optional
            Runs the updates of independent blocks, one after the other by default.
        """

    @abstractmethod
    def state_dict(self) -> State:
        """Return what the optimizer remembers, as named arrays: not copies."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state, bit for bit.

        Raises
        ------
        ValueError
            If the state is of other parameters or another optimizer: every missing, extra and misshapen name.
        """


def copy_state(into: State, state: Mapping[str, NDArray[Any]]) -> None:
    """Copy a saved state into the arrays of an optimizer, all or nothing.

    Raises
    ------
    ValueError
        With every missing, extra and misshapen name.
    """
    faults = [f"{name} is missing" for name in into if name not in state]
    faults += [f"{name} is not expected" for name in state if name not in into]
    faults += [
        f"{name} must have shape {array.shape} and has {state[name].shape}"
        for name, array in into.items()
        if name in state and state[name].shape != array.shape
    ]
    if faults:
        raise ValueError("the state does not fit this optimizer: " + "; ".join(faults))
    for name, array in into.items():
        array[...] = state[name]


def blocks(array: Array) -> Iterator[slice]:
    """Yield slices that cut a flattened array into blocks."""
    for start in range(0, array.size, BLOCK):
        yield slice(start, min(start + BLOCK, array.size))


def flat_view(array: Array, what: str) -> Array:
    """Return a 1-d view of a contiguous array.

    Raises
    ------
    ValueError
        If there is none because the array is not contiguous.
    """
    if not array.flags.c_contiguous:
        raise ValueError(f"{what} of shape {array.shape} must be C-contiguous: use numpy.ascontiguousarray")
    return np.reshape(array, -1)
