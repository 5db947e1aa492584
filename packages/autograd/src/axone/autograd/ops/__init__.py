"""The differentiable operations: each one typed function, its formula and its derivative on one screen."""

from axone.autograd.ops.elementwise import add, divide, exp, log, multiply, negative, power, subtract, tanh
from axone.autograd.ops.linalg import matmul
from axone.autograd.ops.reduce import mean, sum
from axone.autograd.ops.select import getitem
from axone.autograd.ops.shape import reshape, transpose

__all__ = [
    "add",
    "divide",
    "exp",
    "getitem",
    "log",
    "matmul",
    "mean",
    "multiply",
    "negative",
    "power",
    "reshape",
    "subtract",
    "sum",
    "tanh",
    "transpose",
]
