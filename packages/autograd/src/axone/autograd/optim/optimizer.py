"""Base class of the optimizers: parameter groups, learning rates, `zero_grad`, and state that can be saved.

A group's options may differ from the constructor's, as in PyTorch. A subclass is little more than a kernel: the update
of one array, given its gradient and its state. Elementwise kernels are called on blocks, which are long enough that
Python threads do not contend for the interpreter lock, and short enough for the cache; a trainer may run the blocks of
one flat parameter in several threads (`parallel`).

The Values of a group are gathered into one array, updated by the same kernels, and written back.

References
----------
.. [1] PyTorch, "torch.optim", https://pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array
from axone.autograd.tensor import Tensor
from axone.autograd.value import Value

Params: TypeAlias = Iterable[Tensor | Value | Mapping[str, Any]]
"""Parameters, or parameter groups: dicts with ``params`` and their options."""

Group: TypeAlias = dict[str, Any]
"""``params``, a list of Tensors or of Values, and their options: ``lr``, ``lr_scale``, ..."""

State: TypeAlias = dict[str, NDArray[Any]]
"""The state of an optimizer as named arrays, which any file format for arrays can hold."""

Kernel: TypeAlias = Callable[..., None]
"""Updates an array in place: called with the parameter, its gradient, and its state arrays."""

BLOCK = 1 << 18  # elements; see the module's docstring

T = TypeVar("T")


class ParallelMap(Protocol):
    """Like the built-in ``map``, but may run the calls in parallel; it returns when all have ended."""

    def __call__(self, function: Callable[[T], None], items: Iterable[T], /) -> object:
        """Call `function` on each item."""


def sequential(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `function` on each item in order: the ParallelMap of one thread."""
    for item in items:
        function(item)


class _ValueArray:
    """The Values of a group as one parameter."""

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.data: Array = np.empty(len(values))
        self.grad: Array | None = None

    def read(self) -> None:
        """Copy numbers and gradients from the Values."""
        self.data[:] = [value.data for value in self.values]
        self.grad = np.array([value.grad for value in self.values])

    def write(self) -> None:
        """Copy the numbers back to the Values."""
        for value, number in zip(self.values, self.data.tolist()):
            value.data = number


class Optimizer(ABC):
    """Base class of all optimizers.

    Parameters
    ----------
    params : iterable of Tensor, of Value, or of dict
        The parameters, or parameter groups: ``{"params": [...], "lr": ...}``. A group's ``lr_scale`` multiplies the
        learning rate that setting `lr` gives it.
    defaults : dict
        The options that a group does not set.

    Attributes
    ----------
    groups : list of dict
        The parameters with their options, which may be changed between steps.

    Raises
    ------
    ValueError
        If there is no parameter; if a parameter is given twice, is not a leaf or does not require gradients; or if an
        option is unknown or out of its range.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    """The names of the state arrays of each parameter."""
    elementwise: ClassVar[bool] = True
    """Whether the kernel may be called on blocks of a flattened parameter."""

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        entries: list[Any] = list(params)
        given = entries if entries and isinstance(entries[0], Mapping) else [{"params": entries}]
        self.groups: list[Group] = [_complete(group, defaults) for group in given]
        everything = [p for group in self.groups for p in group["params"]]
        if not everything:
            raise ValueError("params is empty: an optimizer needs at least one parameter")
        seen: set[int] = set()
        for i, p in enumerate(everything):
            if id(p) in seen:
                raise ValueError(f"parameter {i} is given twice: pass each parameter once")
            seen.add(id(p))
            if isinstance(p, Tensor) and not p.requires_grad:
                raise ValueError(f"parameter {i} does not require gradients: create it with requires_grad=True")
            if isinstance(p, Tensor) and p._node is not None:
                raise ValueError(
                    f"parameter {i} is the result of {p._node.name!r} and not a leaf: pass a list of the Tensors that you "
                    "created"
                )
        for group in self.groups:
            self._check(group)
        self._targets = [_targets(group["params"]) for group in self.groups]
        self._arrays = [
            [tuple(np.zeros_like(p.data) for _ in self.state_names) for p in targets] for targets in self._targets
        ]
        self._steps = [[0] * len(targets) for targets in self._targets]  # the number of updates of each parameter

    @property
    def lr(self) -> float:
        """The learning rate; setting it gives each group that rate times the group's ``lr_scale``."""
        return float(self.groups[0]["lr"] / self.groups[0]["lr_scale"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value * group["lr_scale"]

    def __repr__(self) -> str:
        name, groups = type(self).__name__, [_text(group) for group in self.groups]
        return f"{name}({groups[0]})" if len(groups) == 1 else f"{name}(\n    " + ",\n    ".join(groups) + ",\n)"

    def parameters(self) -> Iterator[Tensor | Value]:
        """Yield the parameters of all groups, in order."""
        for group in self.groups:
            yield from group["params"]

    def zero_grad(self) -> None:
        """Set every gradient to zero in place, which keeps the arrays and any flat buffer that they are views of."""
        for p in self.parameters():
            if isinstance(p, Value):
                p.grad = 0.0
            else:
                p.zero_grad()

    def step(self, *, parallel: ParallelMap = sequential) -> None:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        parallel : callable, optional
            Runs the updates of independent blocks; in order by default.
        """
        jobs: list[Callable[[], None]] = []
        bundles = [p for targets in self._targets for p in targets if isinstance(p, _ValueArray)]
        for bundle in bundles:
            bundle.read()
        for group, targets, states, steps in zip(self.groups, self._targets, self._arrays, self._steps):
            kernels: dict[int, Kernel] = {}  # by step, which differs for a parameter that had no gradient for a while
            for i, (p, state) in enumerate(zip(targets, states)):
                if p.grad is None:
                    continue
                steps[i] = step = steps[i] + 1
                if step not in kernels:
                    kernels[step] = self._kernel(group, step)
                arrays = (p.data, p.grad, *state)
                jobs += _blocks(kernels[step], arrays) if self.elementwise else [partial(kernels[step], *arrays)]
        parallel(_run, jobs)
        for bundle in bundles:
            bundle.write()

    def relocate(self, move: Callable[[Array], Array]) -> None:
        """Move the state arrays, for instance into memory that processes share.

        Parameters
        ----------
        move : callable
            Maps each array to one of the same shape, dtype and content, which replaces it.
        """
        self._arrays = [[tuple(move(array) for array in state) for state in states] for states in self._arrays]

    def state_dict(self) -> State:
        """Return the state as named arrays, not copied.

        Returns
        -------
        dict of str to ndarray
            ``steps``, the number of updates of each parameter, and ``i.NAME`` for each state array of parameter i.
        """
        state: State = {"steps": np.array([step for steps in self._steps for step in steps], np.int64)}
        for i, arrays in enumerate(itertools.chain.from_iterable(self._arrays)):
            state |= {f"{i}.{name}": array for name, array in zip(self.state_names, arrays)}
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a saved state, so that training continues with the same bits.

        Parameters
        ----------
        state : mapping of str to ndarray
            From `state_dict`. The options of groups are not part of it. The ``steps`` of older states are one number,
            which applies to every parameter.

        Raises
        ------
        ValueError
            If the state belongs to other parameters or another optimizer: names every array that is missing, extra or
            of another shape.
        """
        own = self.state_dict()
        if "steps" in state and state["steps"].shape == ():
            state = {**state, "steps": np.full_like(own["steps"], state["steps"])}
        faults = [f"{name} is missing" for name in own if name not in state]
        faults += [f"{name} is unexpected" for name in state if name not in own]
        faults += [
            f"{name} has shape {state[name].shape}, it must have {array.shape}"
            for name, array in own.items()
            if name in state and state[name].shape != array.shape
        ]
        if faults:
            raise ValueError("the state does not fit the optimizer: " + "; ".join(faults))
        for name, array in own.items():
            array[...] = state[name]
        counts = iter(own["steps"].tolist())
        self._steps = [[next(counts) for _ in targets] for targets in self._targets]

    @abstractmethod
    def _kernel(self, group: Group, step: int) -> Kernel:
        """Return the function that makes update number `step`, from 1, of the parameters of a group."""

    @abstractmethod
    def _check(self, group: Group) -> None:
        """Raise a `ValueError` if an option of a group is out of range, or if its parameters do not fit."""


def check_at_least_zero(group: Group, *names: str) -> None:
    """Raise a `ValueError` if an option is negative."""
    for name in names:
        if not group[name] >= 0:
            raise ValueError(f"{name} ({group[name]}) must not be negative")


def _complete(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> Group:
    """Return a group with all its options."""
    if "params" not in group:
        raise ValueError(f"a parameter group needs the key 'params', got {sorted(group)}")
    unknown = sorted(set(group) - set(defaults) - {"params", "lr_scale"})
    if unknown:
        raise ValueError(f"options of a parameter group must be among {sorted([*defaults, 'lr_scale'])}, got {unknown}")
    scale = group.get("lr_scale", 1.0)
    if not scale > 0:
        raise ValueError(f"lr_scale ({scale}) must be positive: leave out parameters that should not change")
    return {**defaults, "lr_scale": scale, "lr": defaults["lr"] * scale, **group, "params": list(group["params"])}


def _text(group: Group) -> str:
    """Return a group's number of parameters and its options, as `repr` shows them."""
    shown = {name: value for name, value in group.items() if name != "params" and (name != "lr_scale" or value != 1)}
    count = len(group["params"])
    options = "".join(
        f", {name}={value:g}" if type(value) is float else f", {name}={value!r}" for name, value in shown.items()
    )
    return f"{count:,} parameter{'s' * (count > 1)}{options}"


def _targets(params: Sequence[Tensor | Value]) -> list[Tensor | _ValueArray]:
    """Return the parameters that are updated: the Tensors, or one array of all Values."""
    values = [p for p in params if isinstance(p, Value)]
    tensors = [p for p in params if isinstance(p, Tensor)]
    if len(values) + len(tensors) != len(params) or (values and tensors):
        kinds = sorted({type(p).__name__ for p in params})
        raise ValueError(f"a parameter group must hold Tensors only or Values only, got {kinds}")
    return [_ValueArray(values)] if values else list(tensors)


def _run(job: Callable[[], None]) -> None:
    job()


def _blocks(kernel: Kernel, arrays: Sequence[Array]) -> Iterator[Callable[[], None]]:
    """Yield the calls of an elementwise kernel on all blocks of a parameter, its gradient and its state."""
    data = arrays[0]
    if not data.flags.c_contiguous:
        raise ValueError(
            f"a parameter of shape {data.shape} must be C-contiguous: copy it with numpy.ascontiguousarray"
        )
    flat = [array.reshape(-1) for array in arrays]
    count = 1 << ((data.size - 1) // BLOCK).bit_length()  # a power of two, so that threads get equal shares
    for cut in range(count):
        part = slice(data.size * cut // count, data.size * (cut + 1) // count)
        yield partial(kernel, *(array[part] for array in flat))
