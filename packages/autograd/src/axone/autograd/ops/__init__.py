"""The differentiable operations: each one typed function, its formula and its derivative on one screen."""

from axone.autograd.ops.arithmetic import add, divide, multiply, negative, power, subtract
from axone.autograd.ops.choose import clip, maximum, minimum, where
from axone.autograd.ops.einsum import einsum
from axone.autograd.ops.elementwise import abs, cos, exp, leaky_relu, log, log1p, relu, sigmoid, sin, sqrt, tanh
from axone.autograd.ops.index import getitem, take, tril, triu
from axone.autograd.ops.join import concatenate, pad, split, stack
from axone.autograd.ops.linalg import matmul
from axone.autograd.ops.reduce import cumsum, max, mean, min, std, sum, var
from axone.autograd.ops.shape import (
    astype,
    broadcast_to,
    expand_dims,
    flip,
    reshape,
    roll,
    squeeze,
    swapaxes,
    transpose,
)
from axone.autograd.ops.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "abs",
    "add",
    "astype",
    "broadcast_to",
    "clip",
    "concatenate",
    "cos",
    "cumsum",
    "divide",
    "einsum",
    "exp",
    "expand_dims",
    "flip",
    "getitem",
    "leaky_relu",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "power",
    "relu",
    "reshape",
    "roll",
    "sigmoid",
    "sin",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "tanh",
    "transpose",
    "tril",
    "triu",
    "var",
    "where",
]
