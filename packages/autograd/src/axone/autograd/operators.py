"""Hangs the operations on Tensor, once, when the package is imported: operators, methods, and NumPy's own functions.

Tensor cannot import the operations, which need Tensor; so the class is completed here, one floor above both.

NumPy hands its ufuncs and functions to a Tensor among their arguments: ``np.exp(t)``, ``array * t``, ``np.sum(t, 0)``.
Those that are differentiable operations here become these; a comparison gives an array; anything else is refused by
name, for NumPy would make an array of objects of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from axone.autograd import ops
from axone.autograd.tensor import Operand, Tensor, raw


def _reflected(operation: Callable[[Operand, Operand], Tensor]) -> Callable[[Tensor, Operand], Tensor]:
    """Return the operator for a Tensor on the right: ``2.0 - t``."""

    def operator(self: Tensor, other: Operand) -> Tensor:
        return operation(other, self)

    return operator


def _clip(self: Tensor, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
    """Return each element, moved to the nearest bound where it is outside; as `clip`, with the method's names.

    Parameters
    ----------
    min, max : array_like, optional
        The bounds; none by default.
    """
    return ops.clip(self, min, max)


def _reshape(self: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Return the elements in another shape.

    Parameters
    ----------
    *shape : int or sequence of int
        The new lengths, separately or as one sequence; one may be -1 and follows from the others.
    """
    return ops.reshape(self, _one_sequence(shape))


def _transpose(self: Tensor, *axes: int | Sequence[int] | None) -> Tensor:
    """Return the axes in another order.

    Parameters
    ----------
    *axes : int or sequence of int
        Which axis comes first, second, ..., separately or as one sequence; reversed by default.
    """
    return ops.transpose(self, None if not axes or axes[0] is None else _one_sequence(axes))


def _one_sequence(given: tuple[Any, ...]) -> Any:
    return given[0] if len(given) == 1 else given


METHODS: dict[str, Any] = {
    "__add__": ops.add,
    "__radd__": _reflected(ops.add),
    "__sub__": ops.subtract,
    "__rsub__": _reflected(ops.subtract),
    "__mul__": ops.multiply,
    "__rmul__": _reflected(ops.multiply),
    "__truediv__": ops.divide,
    "__rtruediv__": _reflected(ops.divide),
    "__pow__": ops.power,
    "__rpow__": _reflected(ops.power),
    "__matmul__": ops.matmul,
    "__rmatmul__": _reflected(ops.matmul),
    "__neg__": ops.negative,
    "__abs__": ops.abs,
    "__getitem__": ops.getitem,
    "T": property(ops.transpose, doc="The Tensor with its axes reversed."),
    "astype": ops.astype,
    "clip": _clip,
    "cumsum": ops.cumsum,
    "max": ops.max,
    "mean": ops.mean,
    "min": ops.min,
    "reshape": _reshape,
    "squeeze": ops.squeeze,
    "std": ops.std,
    "sum": ops.sum,
    "swapaxes": ops.swapaxes,
    "take": ops.take,
    "transpose": _transpose,
    "var": ops.var,
}

# What NumPy calls these is what they are called here, except for its ufunc `absolute`.
_DIFFERENTIABLE = {"absolute": ops.abs} | {name: getattr(ops, name) for name in ops.__all__ if name != "getitem"}
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def _ufunc(_self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's hook for ufuncs, https://numpy.org/neps/nep-0013-ufunc-overrides.html."""
    name = ufunc.__name__
    operation: Callable[..., Any] | None = _DIFFERENTIABLE.get(name)
    if operation is not None and getattr(np, name, None) is ufunc and method == "__call__" and not options:
        return operation(*inputs)
    if name in _COMPARISONS and method == "__call__" and not options:
        return ufunc(*(raw(x) for x in inputs))
    called = name if method == "__call__" else f"{name}.{method}"
    with_options = f" with {', '.join(f'{option}=' for option in options)}" if options else ""
    raise TypeError(
        f"numpy.{called}{with_options} is not recorded for a Tensor: take one of axone.autograd's operations, or give "
        "it the Tensor's .data"
    )


def _function(
    _self: Tensor, function: Callable[..., Any], _types: object, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """NumPy's hook for its other functions, https://numpy.org/neps/nep-0018-array-function-protocol.html."""
    name = function.__name__
    operation: Callable[..., Any] | None = _DIFFERENTIABLE.get(name)
    if operation is None or getattr(np, name, None) is not function:
        raise TypeError(
            f"{function.__module__}.{name} is not recorded for a Tensor: take one of axone.autograd's operations, or give it the "
            "Tensor's .data"
        )
    return operation(*args, **kwargs)


def complete() -> None:
    """Hang every method on the class."""
    for name, function in METHODS.items():
        setattr(Tensor, name, function)
    Tensor.__array_ufunc__ = _ufunc  # type: ignore[attr-defined]  # not declared: nobody calls them by name
    Tensor.__array_function__ = _function  # type: ignore[attr-defined]  # likewise
