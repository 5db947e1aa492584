"""The operations: each is one typed function with its formula and its derivative."""

from axone.autograd.ops import logic, nondifferentiable
from axone.autograd.ops.arithmetic import add, divide, multiply, negative, positive, power, remainder, square, subtract
from axone.autograd.ops.combine import concatenate, hstack, pad, split, stack, vstack
from axone.autograd.ops.einsum import einsum
from axone.autograd.ops.elementwise import abs, cos, exp, leaky_relu, log, log1p, relu, sigmoid, sin, sqrt, tanh
from axone.autograd.ops.index import getitem, repeat, take, tril, triu
from axone.autograd.ops.linalg import dot, matmul, norm, outer, tensordot
from axone.autograd.ops.logic import all, allclose, any, array_equal, count_nonzero, isfinite, isinf, isnan
from axone.autograd.ops.manipulation import (
    astype,
    broadcast_to,
    copy,
    expand_dims,
    flip,
    ravel,
    reshape,
    roll,
    squeeze,
    swapaxes,
    transpose,
)
from axone.autograd.ops.nondifferentiable import argmax, argmin, argsort, ceil, floor, ndim, round, shape, sign, size
from axone.autograd.ops.reduce import cumsum, max, mean, min, prod, std, sum, var
from axone.autograd.ops.select import clip, maximum, minimum, where
from axone.autograd.ops.softmax import log_softmax, logsumexp, softmax

NONDIFFERENTIABLE = (*logic.__all__, *nondifferentiable.__all__)
"""The names of the functions that have no gradient."""

__all__ = [
    "abs",
    "add",
    "all",
    "allclose",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "array_equal",
    "astype",
    "broadcast_to",
    "ceil",
    "clip",
    "concatenate",
    "copy",
    "cos",
    "count_nonzero",
    "cumsum",
    "divide",
    "dot",
    "einsum",
    "exp",
    "expand_dims",
    "flip",
    "floor",
    "getitem",
    "hstack",
    "isfinite",
    "isinf",
    "isnan",
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
    "ndim",
    "negative",
    "norm",
    "outer",
    "pad",
    "positive",
    "power",
    "prod",
    "ravel",
    "relu",
    "remainder",
    "repeat",
    "reshape",
    "roll",
    "round",
    "shape",
    "sigmoid",
    "sign",
    "sin",
    "size",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "tanh",
    "tensordot",
    "transpose",
    "tril",
    "triu",
    "var",
    "vstack",
    "where",
]
