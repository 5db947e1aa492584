"""What a third party needs to write an operation exactly as this package does: `record` and its types."""

from axone.autograd.arrays import Array, unbroadcast
from axone.autograd.tape import VJP
from axone.autograd.tensor import Operand, needs_grad, record

__all__ = ["VJP", "Array", "Operand", "needs_grad", "record", "unbroadcast"]
