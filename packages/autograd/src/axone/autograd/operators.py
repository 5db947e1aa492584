"""Hangs the operations on Tensor as operators and methods, once, when the package is imported.

Tensor cannot import the operations, which need Tensor; so the class is completed here, one floor above both.
"""

from collections.abc import Callable

from axone.autograd import ops
from axone.autograd.tensor import Operand, Tensor


def _reflected(operation: Callable[[Operand, Operand], Tensor]) -> Callable[[Tensor, Operand], Tensor]:
    """Return the operator for a Tensor on the right: ``2.0 - t``."""

    def operator(self: Tensor, other: Operand) -> Tensor:
        return operation(other, self)

    return operator


METHODS: dict[str, object] = {
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
    "__getitem__": ops.getitem,
    "T": property(ops.transpose, doc="The Tensor with its axes reversed."),
    "sum": ops.sum,
    "mean": ops.mean,
    "reshape": ops.reshape,
    "transpose": ops.transpose,
}


def complete() -> None:
    """Hang every method on the class."""
    for name, function in METHODS.items():
        setattr(Tensor, name, function)
