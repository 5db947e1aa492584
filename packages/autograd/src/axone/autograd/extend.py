"""What a third party needs to write an operation exactly as this package does: `record` and its types."""

from axone.autograd.arrays import Array, unbroadcast
from axone.autograd.deferred import Deferred, Part, Product, Rows, Scattered
from axone.autograd.mode import watched_alike
from axone.autograd.tape import VJP, Gradient
from axone.autograd.tensor import Operand, needs_grad, record

__all__ = [
    "VJP",
    "Array",
    "Deferred",
    "Gradient",
    "Operand",
    "Part",
    "Product",
    "Rows",
    "Scattered",
    "needs_grad",
    "record",
    "unbroadcast",
    "watched_alike",
]
