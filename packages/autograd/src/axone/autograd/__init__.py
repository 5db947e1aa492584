"""Automatic differentiation on NumPy: a scalar Value that explains it, a Tensor that uses it, and optimizers."""

from axone.autograd import operators, optim
from axone.autograd.mode import no_grad
from axone.autograd.ops import (
    add,
    divide,
    exp,
    log,
    matmul,
    mean,
    multiply,
    negative,
    power,
    reshape,
    subtract,
    sum,
    tanh,
    transpose,
)
from axone.autograd.tensor import Tensor, grad
from axone.autograd.value import Value

operators.complete()

__all__ = [
    "Tensor",
    "Value",
    "add",
    "divide",
    "exp",
    "grad",
    "log",
    "matmul",
    "mean",
    "multiply",
    "negative",
    "no_grad",
    "optim",
    "power",
    "reshape",
    "subtract",
    "sum",
    "tanh",
    "transpose",
]
