"""Sets the operations on Tensor when the package is imported: as operators, as methods, and for NumPy's functions.

Tensor cannot import the operations, which import Tensor; so this module completes the class.

NumPy passes its ufuncs and functions to a Tensor among their arguments: ``np.exp(t)``, ``array * t``, ``np.sum(t, 0)``.
Those that exist in `ops` are replaced by the function there; a comparison returns an array. Others are refused by name,
because NumPy would make an array of objects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd import ops
from axone.autograd.pytorch_names import METHODS as PYTORCH_METHODS
from axone.autograd.pytorch_names import Missing
from axone.autograd.tensor import Operand, Tensor, raw


def _reflected(operation: Callable[[Operand, Operand], Tensor]) -> Callable[[Tensor, Operand], Tensor]:
    """Return the operator for a Tensor on the right: ``2.0 - t``."""

    def operator(self: Tensor, other: Operand) -> Tensor:
        return operation(other, self)

    return operator


def _clip(self: Tensor, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
    """Limit each element to a range; as `clip`, with the argument names of NumPy's method.

    Parameters
    ----------
    min, max : array_like, optional
        The bounds; none by default.
    """
    return ops.clip(self, min, max)


def _flatten(self: Tensor) -> Tensor:
    """Return a copy of the elements in one axis."""
    return ops.copy(ops.ravel(self))


def _reshape(self: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Return the elements in another shape.

    Parameters
    ----------
    *shape : int or sequence of int
        The new lengths, separately or as one sequence; one may be -1, which is inferred from the others.
    """
    return ops.reshape(self, _one_sequence(shape))


def _tolist(self: Tensor) -> Any:
    """Return the elements as nested lists of Python numbers; the element of a 0-d Tensor as a number."""
    return self.data.tolist()


def _transpose(self: Tensor, *axes: int | Sequence[int] | None) -> Tensor:
    """Permute the axes.

    Parameters
    ----------
    *axes : int or sequence of int
        The axes in their new order, separately or as one sequence; reversed by default.
    """
    return ops.transpose(self, None if not axes or axes[0] is None else _one_sequence(axes))


def _one_sequence(given: tuple[Any, ...]) -> Any:
    return given[0] if len(given) == 1 else given


METHODS: dict[str, Any] = {
    "__abs__": ops.abs,
    "__add__": ops.add,
    "__getitem__": ops.getitem,
    "__matmul__": ops.matmul,
    "__mod__": ops.remainder,
    "__mul__": ops.multiply,
    "__neg__": ops.negative,
    "__pos__": ops.positive,
    "__pow__": ops.power,
    "__radd__": _reflected(ops.add),
    "__rmatmul__": _reflected(ops.matmul),
    "__rmod__": _reflected(ops.remainder),
    "__rmul__": _reflected(ops.multiply),
    "__rpow__": _reflected(ops.power),
    "__rsub__": _reflected(ops.subtract),
    "__rtruediv__": _reflected(ops.divide),
    "__sub__": ops.subtract,
    "__truediv__": ops.divide,
    "T": property(ops.transpose, doc="The Tensor with its axes reversed."),
    "all": ops.all,
    "any": ops.any,
    "argmax": ops.argmax,
    "argmin": ops.argmin,
    "argsort": ops.argsort,
    "astype": ops.astype,
    "clip": _clip,
    "copy": ops.copy,
    "cumsum": ops.cumsum,
    "dot": ops.dot,
    "exp": ops.exp,
    "flatten": _flatten,
    "leaky_relu": ops.leaky_relu,
    "log": ops.log,
    "max": ops.max,
    "mean": ops.mean,
    "min": ops.min,
    "prod": ops.prod,
    "ravel": ops.ravel,
    "relu": ops.relu,
    "repeat": ops.repeat,
    "reshape": _reshape,
    "round": ops.round,
    "sigmoid": ops.sigmoid,
    "squeeze": ops.squeeze,
    "std": ops.std,
    "sum": ops.sum,
    "swapaxes": ops.swapaxes,
    "take": ops.take,
    "tanh": ops.tanh,
    "tolist": _tolist,
    "transpose": _transpose,
    "var": ops.var,
}

# NumPy's function of each name; two names for one function, as `np.concat`, are one object.
_OPERATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(np, name): getattr(ops, name) for name in ops.__all__ if hasattr(np, name)
} | {np.abs: ops.abs, np.amax: ops.max, np.amin: ops.min, np.linalg.norm: ops.norm}
_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)


def _ufunc(_self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's hook for ufuncs, https://numpy.org/neps/nep-0013-ufunc-overrides.html."""
    if method == "__call__" and not options:
        operation = _OPERATIONS.get(ufunc)
        if operation is not None:
            return operation(*inputs)
        if ufunc in _COMPARISONS:
            return ufunc(*(raw(x) for x in inputs))
    called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    with_options = f" with {', '.join(f'{option}=' for option in options)}" if options else ""
    raise TypeError(
        f"numpy.{called}{with_options} does not support Tensors: use an operation of axone.autograd, or pass the "
        "Tensor's .data"
    )


def _function(
    _self: Tensor, function: Callable[..., Any], _types: object, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """NumPy's hook for its other functions, https://numpy.org/neps/nep-0018-array-function-protocol.html."""
    operation = _OPERATIONS.get(function)
    if operation is None:
        raise TypeError(
            f"{function.__module__}.{function.__name__} does not support Tensors: use an operation of axone.autograd, or "
            "pass the Tensor's .data"
        )
    return operation(*args, **kwargs)


def _dir(self: Tensor) -> list[str]:
    """Return the names of the attributes, for completion: without those that only raise an error."""
    return [name for name in object.__dir__(self) if not isinstance(inspect.getattr_static(self, name), Missing)]


def complete() -> None:
    """Set every method on the class."""
    for name, function in METHODS.items():
        setattr(Tensor, name, function)
    hooks: dict[str, Any] = {"__array_ufunc__": _ufunc, "__array_function__": _function, "__dir__": _dir}
    functions = {
        name: Missing(name, f"axone.autograd.{name}(t)")
        for name in ops.__all__
        if not hasattr(Tensor, name) and name not in PYTORCH_METHODS
    }
    for name, attribute in (hooks | functions).items():  # type checkers do not see these
        setattr(Tensor, name, attribute)
