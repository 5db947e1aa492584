"""Module: the base class of layers, which names, counts, saves and shares the parameters of a tree of modules.

A module is a plain object. Its parameters and submodules are found by walking its attributes, lists and dicts in the
order in which they were set. Assignment is not intercepted, so type checkers see every attribute.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from axone.autograd import Tensor, no_grad
from axone.autograd.extend import Array
from axone.nn import init
from axone.nn.arena import flatten
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.pytorch import METHODS, check_arguments, check_forward

Layer: TypeAlias = Callable[[Tensor], Tensor]
"""A module, or any function of a Tensor: `Sequential` and `TransformerBlock` are built from layers."""


class Parameter(Tensor):
    """A Tensor that an optimizer trains.

    Parameters
    ----------
    data : array_like
        The initial values.
    dtype : dtype, optional
        The dtype to convert them to.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn import Parameter
    >>> Parameter(np.zeros(3)).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike, *, dtype: DTypeLike | None = None) -> None:
        super().__init__(data, requires_grad=True, dtype=dtype)
        if init.is_skipping():
            self.data = init.meta(self.shape, self.dtype)


class Module:
    """Base class of all layers.

    A subclass sets its parameters and submodules as attributes, in a list or in a dict, and defines ``__call__``.

    Attributes
    ----------
    training : bool
        True in training, when dropout is active; set by `train` and `eval`.

    Examples
    --------
    >>> from axone.nn import Linear, Sequential
    >>> Sequential(Linear(2, 3), Linear(3, 1, bias=False))
    Sequential  12 parameters
      layers.0  Linear(2, 3)  9
      layers.1  Linear(3, 1, bias=False)  3
    """

    training: bool = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_forward(cls)
        restore_default(cls, "inference", Module.inference)

    if not TYPE_CHECKING:  # for type checkers a misspelt name stays an error

        def __new__(cls, *arguments: Any, **options: Any) -> Self:
            """Return a module whose constructor has not run; refuse options that only PyTorch's layers take."""
            check_arguments(cls, arguments, options)
            return super().__new__(cls)

        def __getattr__(self, name: str) -> NoReturn:
            if name in METHODS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}: {METHODS[name]}")
            super().__getattribute__(name)  # raises the usual error, and that of a property which lacks an attribute

        __new__.__signature__ = inspect.Signature([inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)])

    def inference(self, dense: Dense = dense_product) -> Forward:  # noqa: ARG002 - overridden methods use it
        """Return the module's forward on plain arrays: by default a call of the module under `no_grad`.

        A layer that defines its own states the arithmetic of ``__call__`` in evaluation mode, without a tape. A subclass
        that overrides ``__call__`` alone gets the default back. The arrays of the parameters are looked up now.

        Parameters
        ----------
        dense : callable, optional
            From a weight (out, in) and a bias or None to the function that computes ``x W^T + b``: by default one product.

        Returns
        -------
        callable
            From rows (N, C), or one vector (C,), to a new array.

        Examples
        --------
        >>> import numpy as np
        >>> from axone.nn import LayerNorm
        >>> LayerNorm(3).inference()(np.array([1.0, 2.0, 3.0], np.float32)).round(3)
        array([-1.225,  0.   ,  1.225], dtype=float32)
        """
        return call_without_tape(cast("Layer", self))

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield this module and all modules below it, each once, with their paths.

        Yields
        ------
        path : str
            ``""`` for the module itself, then ``"blocks.0"``, ...
        module : Module
        """
        return ((path, item) for path, item in _walk(self, "", set()) if isinstance(item, Module))

    def modules(self) -> Iterator[Module]:
        """Yield this module and all modules below it, each once.

        Yields
        ------
        Module
        """
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters with their paths; a tied parameter once, under its first name.

        Yields
        ------
        path : str
            Such as ``"blocks.0.mlp.up_proj.weight"``.
        parameter : Parameter
        """
        return ((path, item) for path, item in _walk(self, "", set()) if isinstance(item, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters; a tied parameter once.

        Yields
        ------
        Parameter
        """
        return (parameter for _, parameter in self.named_parameters())

    def num_parameters(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(parameter.size for parameter in self.parameters())

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the parameters by name, without copying them.

        Returns
        -------
        dict of str to ndarray
        """
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy arrays into the parameters, in place; on an error, none is changed.

        Parameters
        ----------
        state : mapping of str to array_like
            Arrays by name, as `state_dict` returns them.
        strict : bool, default True
            Whether a missing or unexpected name is an error; a wrong shape always is.

        Raises
        ------
        TypeError
            If the state is not a mapping.
        ValueError
            If names or shapes differ, or an array does not hold real numbers; the message lists every fault.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
        own = dict(self.named_parameters())
        given = {name: np.asarray(value) for name, value in state.items()}
        faults = [fault for name in own if name in given for fault in _faults(name, own[name], given[name])]
        if strict:
            faults += [f"{name} is missing" for name in own if name not in given]
            faults += [f"{name} is not expected" for name in given if name not in own]
        if faults:
            raise ValueError(f"the state does not match this {type(self).__name__}: " + "; ".join(faults))
        for name, parameter in own.items():
            if name in given and init.is_meta(parameter.data):  # built under init.skip
                parameter.data = given[name].astype(parameter.dtype)
            elif name in given:
                parameter.data[...] = given[name]

    def astype(self, dtype: DTypeLike) -> Self:
        """Convert all parameters into one aligned array, and drop their gradients; return the module.

        Parameters
        ----------
        dtype : dtype
            A floating-point dtype, such as ``numpy.float64``.

        Returns
        -------
        Module

        Raises
        ------
        TypeError
            If the dtype is not a floating-point dtype.
        """
        if not np.issubdtype(np.dtype(dtype), np.floating):
            raise TypeError(f"dtype ({np.dtype(dtype)}) must be a floating-point dtype, such as numpy.float32")
        for parameter in self.parameters():
            parameter.grad = None
            if init.is_meta(parameter.data):
                parameter.data = init.meta(parameter.shape, dtype)
        flatten([parameter for parameter in self.parameters() if not init.is_meta(parameter.data)], dtype=dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all modules below it to training; return this module.

        Parameters
        ----------
        mode : bool, default True
            False switches to evaluation, as `eval` does.

        Returns
        -------
        Module
        """
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all modules below it to evaluation; return this module."""
        return self.train(mode=False)

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero, in place."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def replica(self) -> Self:
        """Return a copy with the same parameter arrays, and its own gradients and random generators.

        Each worker of a data-parallel training holds one.

        Returns
        -------
        Module
            A module of the same class.
        """
        return _replicate(self, {})  # type: ignore[no-any-return]  # a copy of its argument

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows behind the class's name; a layer overrides it.

        Returns
        -------
        str
            Such as ``"3, 2, bias=False"``; empty by default.
        """
        return ""

    def _summary(self) -> str:
        """Return the class's name with the arguments of `extra_repr`."""
        extra = self.extra_repr()
        return f"{type(self).__name__}({extra})" if extra else type(self).__name__

    def __repr__(self) -> str:
        lines: list[str] = []
        owners: dict[str, tuple[Module, int]] = {}  # path to module and depth
        for path, item in _walk(self, "", set()):
            above = path.rpartition(".")[0]
            while above and above not in owners:  # "layers" of "layers.0" is a list, not a module
                above = above.rpartition(".")[0]
            owner, depth = owners.get(above, (self, -1))
            depth += 1
            if isinstance(item, Module):
                owners[path] = item, depth
                lines.append(f"{'  ' * depth}{path}  {item._summary()}  {item.num_parameters():,}")
            elif not owner.extra_repr():  # a layer that shows its sizes need not list its Parameters
                lines.append(f"{'  ' * depth}{path}  Parameter{item.shape}  {item.size:,}")
        head = self._summary()
        return "\n".join([f"{head}  {self.num_parameters():,} parameters", *lines[1:]]) if lines[1:] else head


def restore_default(cls: type[Module], name: str, default: Callable[..., object]) -> None:
    """Restore the default of a method in a class that redefines ``__call__`` and not the method.

    Parameters
    ----------
    cls : type
    name : str
        A method that returns the arithmetic of ``__call__`` in another form.
    default : callable
        The method that calls the module.
    """

    def definer(method: str) -> int:
        """Return the place in the method resolution order of the class that defines a method."""
        return min((place for place, kind in enumerate(cls.__mro__) if method in vars(kind)), default=len(cls.__mro__))

    if definer("__call__") < definer(name):
        setattr(cls, name, default)


def inference(layer: Layer, dense: Dense = dense_product) -> Forward:
    """Return the forward on plain arrays of a layer that may be any function of a Tensor."""
    module: object = layer  # mypy takes no function for a Module
    return module.inference(dense) if isinstance(module, Module) else call_without_tape(layer)


def call_without_tape(layer: Layer) -> Forward:
    """Return a function of arrays that calls a layer under `no_grad`."""

    def forward(x: Array) -> Array:
        with no_grad():
            return layer(Tensor(x)).data

    return forward


_WALKED = (Module, Parameter, list, tuple, dict)


def _walk(item: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Module | Parameter]]:
    """Yield the modules and parameters in an attribute's value, depth first, each once."""
    if isinstance(item, (Module, Parameter)):
        if id(item) in seen:
            return
        seen.add(id(item))
        yield path, item
    for key, child in _children(item):
        if isinstance(child, _WALKED):  # skipping plain values saves two thirds of the time
            yield from _walk(child, f"{path}.{key}" if path else str(key), seen)


def _children(item: Any) -> Iterable[tuple[Any, Any]]:
    """Return the named children of a value: the attributes of a module, the items of a list, tuple or dict."""
    if isinstance(item, Module):
        return vars(item).items()
    if isinstance(item, (list, tuple)):
        return enumerate(item)
    if isinstance(item, dict):
        return item.items()
    return ()


def _faults(name: str, parameter: Parameter, given: NDArray[Any]) -> Iterator[str]:
    """Yield the reasons why an array cannot be copied into a parameter."""
    if given.shape != parameter.shape:
        yield f"{name} must have shape {parameter.shape}, got {given.shape}"
    if given.dtype.kind not in "fiu":
        yield f"{name} must hold real numbers, got {given.dtype}"


def _replicate(item: Any, made: dict[int, Any]) -> Any:
    """Copy a tree of modules that shares the parameters' arrays; tied parameters and modules stay tied."""
    if id(item) in made:
        return made[id(item)]
    if isinstance(item, Parameter):
        twin = made[id(item)] = Parameter(item.data)
        twin.requires_grad = item.requires_grad
        return twin
    if isinstance(item, Module):
        module = made[id(item)] = copy.copy(item)
        for key, child in vars(item).items():
            setattr(module, key, _replicate(child, made))
        return module
    if isinstance(item, list):
        copied = made[id(item)] = copy.copy(item)  # of the same class
        copied[:] = [_replicate(child, made) for child in item]
        return copied
    if isinstance(item, dict):
        mapping = made[id(item)] = copy.copy(item)
        mapping.update({key: _replicate(child, made) for key, child in item.items()})
        return mapping
    if isinstance(item, tuple):  # a NamedTuple takes its fields one by one
        return tuple.__new__(type(item), [_replicate(child, made) for child in item])
    if isinstance(item, np.random.Generator):
        made[id(item)] = item.spawn(1)[0]
        return made[id(item)]
    return item
