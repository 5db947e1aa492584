"""What all optimizers share: parameter groups, learning rates, gradients set to zero, state that can be saved.

A group's options may differ from the constructor's, as in PyTorch. An optimizer itself is little more than a kernel:
the update of one array, given its gradient and what is remembered of it. Elementwise kernels are called on blocks:
long enough that Python threads do not fight over the interpreter lock, short enough for the cache; a trainer may hand
the blocks of one flat parameter to several threads (`parallel`).

Values are gathered into one array for each group, updated by the same kernels, and written back.

References
----------
.. [1] PyTorch, "torch.optim", https://pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

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
"""Parameters, or groups of them: dicts with ``params`` and the options that hold for them."""

Group: TypeAlias = dict[str, Any]
"""``params``, a list of Tensors or of Values, and the options that hold for them: ``lr``, ``lr_scale``, ..."""

State: TypeAlias = dict[str, NDArray[Any]]
"""What an optimizer remembers, as named arrays, so that any array file can hold it."""

Kernel: TypeAlias = Callable[..., None]
"""Updates an array in place: called with the parameter, its gradient, and the arrays that are remembered of it."""

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


class _ValueArray:
    """The Values of a group as one parameter."""

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.data: Array = np.empty(len(values))
        self.grad: Array | None = None

    def read(self) -> None:
        """Take over numbers and gradients."""
        self.data[:] = [value.data for value in self.values]
        self.grad = np.array([value.grad for value in self.values])

    def write(self) -> None:
        """Give the numbers back."""
        for value, number in zip(self.values, self.data.tolist()):
            value.data = number


class Optimizer(ABC):
    """The base of all optimizers.

    Parameters
    ----------
    params : iterable of Tensor, of Value, or of dict
        The parameters, or groups of them: ``{"params": [...], "lr": ...}``. A group's ``lr_scale`` multiplies the
        learning rate that `lr` sets.
    defaults : dict
        The options of a group that does not give its own.

    Attributes
    ----------
    groups : list of dict
        The parameters with their options, which may be changed between steps.

    Raises
    ------
    ValueError
        If there is no parameter, one appears twice, was computed or does not require gradients; if an option is unknown or out
        of its range.
    """

    remembered: ClassVar[tuple[str, ...]] = ()
    """The names of the arrays that are remembered of each parameter."""
    elementwise: ClassVar[bool] = True
    """Whether the kernel may be called on blocks of a flattened parameter."""

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        entries: list[Any] = list(params)
        given = entries if entries and isinstance(entries[0], Mapping) else [{"params": entries}]
        self.groups: list[Group] = [_complete(group, defaults) for group in given]
        everything = [p for group in self.groups for p in group["params"]]
        if not everything:
            raise ValueError("an optimizer needs at least one parameter, and got none")
        if len({id(p) for p in everything}) != len(everything):
            raise ValueError("each parameter may be given to an optimizer once, and one appears twice")
        for i, p in enumerate(everything):
            if isinstance(p, Tensor) and not p.requires_grad:
                raise ValueError(f"an optimizer needs parameters with requires_grad=True, and parameter {i} has not")
            if isinstance(p, Tensor) and p._node is not None:
                raise ValueError(
                    f"an optimizer needs Tensors that were made, not computed, and parameter {i} is the result of "
                    f"{p._node.name!r}: give it a list of parameters"
                )
        for group in self.groups:
            self._check(group)
        self._targets = [_targets(group["params"]) for group in self.groups]
        self._memories = [
            [tuple(np.zeros_like(p.data) for _ in self.remembered) for p in targets] for targets in self._targets
        ]
        self._steps = [[0] * len(targets) for targets in self._targets]  # how often each parameter was updated

    @property
    def lr(self) -> float:
        """The learning rate; setting it sets every group's, each times the group's ``lr_scale``."""
        return float(self.groups[0]["lr"] / self.groups[0]["lr_scale"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value * group["lr_scale"]

    def parameters(self) -> Iterator[Tensor | Value]:
        """Yield the parameters of all groups, in order."""
        for group in self.groups:
            yield from group["params"]

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place: the arrays stay, and with them any buffer they are views of."""
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
            Runs the updates of independent blocks, one after the other by default.
        """
        jobs: list[Callable[[], None]] = []
        bundles = [p for targets in self._targets for p in targets if isinstance(p, _ValueArray)]
        for bundle in bundles:
            bundle.read()
        for group, targets, memories, steps in zip(self.groups, self._targets, self._memories, self._steps):
            kernels: dict[int, Kernel] = {}  # by step: a parameter without a gradient for a while is behind the others
            for i, (p, memory) in enumerate(zip(targets, memories)):
                if p.grad is None:
                    continue
                steps[i] = step = steps[i] + 1
                if step not in kernels:
                    kernels[step] = self._kernel(group, step)
                arrays = (p.data, p.grad, *memory)
                jobs += _blocks(kernels[step], arrays) if self.elementwise else [partial(kernels[step], *arrays)]
        parallel(_run, jobs)
        for bundle in bundles:
            bundle.write()

    def relocate(self, move: Callable[[Array], Array]) -> None:
        """Keep what the optimizer remembers in other arrays, such as ones in memory that processes share.

        Parameters
        ----------
        move : callable
            From each array to one of the same shape, type and content, which is used from now on.
        """
        self._memories = [
            [tuple(move(array) for array in memory) for memory in memories] for memories in self._memories
        ]

    def state_dict(self) -> State:
        """Return what the optimizer remembers, as named arrays: not copies.

        Returns
        -------
        dict of str to ndarray
            ``steps``, the number of updates of each parameter, and for parameter number i ``i.NAME`` for each
            remembered array.
        """
        state: State = {"steps": np.array([step for steps in self._steps for step in steps], np.int64)}
        every = [memory for memories in self._memories for memory in memories]
        for i, memory in enumerate(every):
            state |= {f"{i}.{name}": array for name, array in zip(self.remembered, memory)}
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state, bit for bit.

        Parameters
        ----------
        state : mapping of str to ndarray
            As from `state_dict`. The options of groups are not part of it. Older states hold one number in ``steps``,
            which counts for every parameter.

        Raises
        ------
        ValueError
            If the state is of other parameters or another optimizer: every missing, extra and misshapen name.
        """
        own = self.state_dict()
        if "steps" in state and state["steps"].shape == ():
            state = {**state, "steps": np.full_like(own["steps"], state["steps"])}
        faults = [f"{name} is missing" for name in own if name not in state]
        faults += [f"{name} is not expected" for name in state if name not in own]
        faults += [
            f"{name} must have shape {array.shape} and has {state[name].shape}"
            for name, array in own.items()
            if name in state and state[name].shape != array.shape
        ]
        if faults:
            raise ValueError("the state does not fit this optimizer: " + "; ".join(faults))
        for name, array in own.items():
            array[...] = state[name]
        counts = iter(own["steps"].tolist())
        self._steps = [[next(counts) for _ in targets] for targets in self._targets]

    @abstractmethod
    def _kernel(self, group: Group, step: int) -> Kernel:
        """Return the update for the parameters of a group whose update this is, counted from one."""

    @abstractmethod
    def _check(self, group: Group) -> None:
        """Refuse a group whose options are out of range, or whose parameters do not suit the optimizer."""


def check_at_least_zero(group: Group, *names: str) -> None:
    """Refuse options that are negative.

    Raises
    ------
    ValueError
        Naming the first of them.
    """
    for name in names:
        if not group[name] >= 0:
            raise ValueError(f"{name} must not be negative, and is {group[name]}")


def _complete(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> Group:
    """Return a group with all its options."""
    if "params" not in group:
        raise ValueError(f"a group needs its parameters, under 'params', and has {sorted(group)}")
    unknown = sorted(set(group) - set(defaults) - {"params", "lr_scale"})
    if unknown:
        raise ValueError(f"the options of a group are {sorted([*defaults, 'lr_scale'])}, and got {unknown}")
    scale = group.get("lr_scale", 1.0)
    if not scale > 0:
        raise ValueError(f"lr_scale must be positive, and is {scale}: leave out the parameters that stay as they are")
    return {**defaults, "lr_scale": scale, "lr": defaults["lr"] * scale, **group, "params": list(group["params"])}


def _targets(params: Sequence[Tensor | Value]) -> list[Tensor | _ValueArray]:
    """Return the arrays that are updated: one for each Tensor, or one for all Values."""
    values = [p for p in params if isinstance(p, Value)]
    tensors = [p for p in params if isinstance(p, Tensor)]
    if len(values) + len(tensors) != len(params) or (values and tensors):
        kinds = sorted({type(p).__name__ for p in params})
        raise ValueError(f"the parameters of a group must be Tensors or Values, all of one kind, and are {kinds}")
    return [_ValueArray(values)] if values else list(tensors)


def _run(job: Callable[[], None]) -> None:
    job()


def _blocks(kernel: Kernel, arrays: Sequence[Array]) -> Iterator[Callable[[], None]]:
    """Yield the calls of an elementwise kernel on all blocks of a parameter and what goes with it."""
    data = arrays[0]
    if not data.flags.c_contiguous:
        raise ValueError(f"a parameter of shape {data.shape} must be C-contiguous: use numpy.ascontiguousarray")
    flat = [array.reshape(-1) for array in arrays]
    count = 1 << ((data.size - 1) // BLOCK).bit_length()  # a power of two, so that threads get equal shares
    for cut in range(count):
        part = slice(data.size * cut // count, data.size * (cut + 1) // count)
        yield partial(kernel, *(array[part] for array in flat))
