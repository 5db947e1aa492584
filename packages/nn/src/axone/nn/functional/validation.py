"""Checks of sizes, dtypes and shapes, made before an operation computes."""

from collections.abc import Callable
from numbers import Integral
from typing import TypeAlias

import numpy as np

from axone.autograd import Tensor

Name: TypeAlias = str | Callable[[], str]
"""The name of a layer or operation, or a function that returns it: a name is built only for an error."""


def check_sizes(who: str, **given: int) -> None:
    """Refuse sizes that are not positive integers.

    Parameters
    ----------
    who : str
        The layer.
    **given : int
        Its sizes, by the names of the arguments.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is below 1.
    """
    for name, size in given.items():
        if isinstance(size, bool) or not isinstance(size, Integral):
            raise TypeError(f"{name} of {who} must be an integer, got {size!r}")
        if size < 1:
            raise ValueError(f"{name} ({size}) of {who} must be at least 1")


def check_dtypes(name: str, x: Tensor, *others: Tensor | None) -> None:
    """Refuse inputs that are not Tensors of one dtype.

    Raises
    ------
    TypeError
        If an input is not a Tensor, or two have different dtypes.
    """
    for other in (x, *others):
        if other is None:
            continue
        if not isinstance(other, Tensor):
            raise _not_a_tensor(name, other)
        if other.data.dtype != x.data.dtype:
            raise TypeError(
                f"{name} needs Tensors of one dtype, got {x.dtype} and {other.dtype}: write Tensor(array, "
                f"dtype=numpy.{other.dtype}), or convert a module with astype(numpy.{x.dtype})"
            )


def check_last_axis(who: Name, x: Tensor, size: int) -> None:
    """Refuse an input whose last axis does not have length `size`, or has length 0.

    Raises
    ------
    TypeError
        If `x` is not a Tensor.
    ValueError
        If the shape is another.
    """
    if not isinstance(x, Tensor):
        raise _not_a_tensor(_text(who), x)
    if x.shape[-1:] != (size,):
        raise shape_error(who, f"(..., {size})", x.shape)
    if not size:
        raise ValueError(f"{_text(who)} needs a last axis of at least 1 element, got shape {x.shape}")


def shape_error(who: Name, wanted: str, came: tuple[int, ...]) -> ValueError:
    """Return the error that names a layer or operation, the shape it needs and the shape it got."""
    return ValueError(f"{_text(who)} needs an input of shape {wanted}, got {came}")


def _text(who: Name) -> str:
    return who if isinstance(who, str) else who()


def _not_a_tensor(name: str, value: object) -> TypeError:
    wider = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.dtype != np.float32
    dtype = ", dtype=numpy.float32" if wider else ""
    return TypeError(f"{name} needs Tensors, got {type(value).__name__}: wrap it in Tensor(...{dtype})")
