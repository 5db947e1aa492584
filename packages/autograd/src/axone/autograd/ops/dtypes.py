"""Dtype rules of the operations, and errors that name the operation.

A number, a list or an array beside a Tensor adopts the Tensor's dtype, so that float32 never widens. Two Tensors must
have the same dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array, to_array
from axone.autograd.tensor import Operand, Tensor


def values(x: Operand) -> Array:
    """Return the array of a Tensor; convert any other value to an array."""
    return x.data if isinstance(x, Tensor) else to_array(x)


def operands(name: str, a: Operand, b: Operand) -> tuple[Array, Array]:
    """Return the arrays of two operands in one dtype.

    Raises
    ------
    TypeError
        If two Tensors have different floating-point dtypes.
    """
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            x, y = a.data, b.data
            return (x, y) if x.dtype == y.dtype else _common_dtype(name, x, y)
        return a.data, adopt(name, b, a.data)
    if isinstance(b, Tensor):
        return adopt(name, a, b.data), b.data
    return to_array(a), to_array(b)


def many_operands(name: str, inputs: tuple[Operand, ...]) -> list[Array]:
    """Return the arrays of any number of operands in one dtype, as `operands` does for two."""
    tensors = [x.data for x in inputs if isinstance(x, Tensor)]
    if not tensors:
        return [to_array(x) for x in inputs]
    model = next((x for x in tensors if x.dtype.kind == "f"), tensors[0])
    return [_common_dtype(name, model, x.data)[1] if isinstance(x, Tensor) else adopt(name, x, model) for x in inputs]


def adopt(name: str, value: Any, beside: Array) -> Array:
    """Return a value that is not a Tensor as an array in the dtype of the Tensor beside it."""
    array = np.asarray(value)
    if array.dtype.kind not in "bufic":
        raise TypeError(f"{name} needs numbers beside a Tensor, got {type(value).__name__}")
    return array if beside.dtype.kind != "f" or array.dtype.kind == "c" else array.astype(beside.dtype, copy=False)


def _common_dtype(name: str, x: Array, y: Array) -> tuple[Array, Array]:
    kinds = x.dtype.kind + y.dtype.kind
    if kinds == "ff" and x.dtype != y.dtype:
        narrow, wide = sorted((x.dtype, y.dtype), key=lambda dtype: dtype.itemsize)
        raise TypeError(
            f"{name} needs Tensors of one floating-point dtype, got {x.dtype} and {y.dtype}: convert the {wide} one with "
            f"astype(numpy.{narrow})"
        )
    if "c" in kinds:
        return x, y
    if kinds[0] == "f":
        return x, y.astype(x.dtype, copy=False)
    return (x.astype(y.dtype), y) if kinds[1] == "f" else (x, y)


def misfit(name: str, *arrays: NDArray[Any]) -> ValueError:
    """Return the error that names the operation and the shapes that do not broadcast."""
    *first, last = [str(array.shape) for array in arrays]
    return ValueError(f"{name} needs shapes that broadcast, got {', '.join(first)} and {last}")
