"""What every operation asks of its inputs before it computes: Tensors, one dtype, axes that fit."""

from collections.abc import Callable
from numbers import Integral
from typing import TypeAlias

from axone.autograd import Tensor

Name: TypeAlias = str | Callable[[], str]
"""The name of a layer or operation, or what returns it: a name is made only when it is needed."""


def sizes(who: str, **given: int) -> None:
    """Refuse what a layer cannot be the size of.

    Parameters
    ----------
    who : str
        The layer.
    **given : int
        Its sizes, by the names of the arguments.

    Raises
    ------
    TypeError
        If one is no whole number.
    ValueError
        If one is negative.
    """
    for name, size in given.items():
        if isinstance(size, bool) or not isinstance(size, Integral):
            raise TypeError(f"{who} needs a whole number as {name}, and it is {size!r}")
        if size < 0:
            raise ValueError(f"{who} needs {name} of at least 0, and it is {size}")


def one_dtype(name: str, x: Tensor, *others: Tensor | None) -> None:
    """Refuse inputs that are not Tensors of one dtype.

    Raises
    ------
    TypeError
        If one is not a Tensor, or two have different dtypes.
    """
    for other in (x, *others):
        if other is None:
            continue
        if not isinstance(other, Tensor):
            raise TypeError(f"{name} needs Tensors, and got a {type(other).__name__}: wrap it in Tensor(...)")
        if other.data.dtype != x.data.dtype:
            raise TypeError(
                f"{name} needs Tensors of one dtype, and these are {x.dtype} and {other.dtype}: convert one"
            )


def last_axis(who: Name, x: Tensor, size: int) -> None:
    """Refuse an input whose last axis is not `size` long.

    Raises
    ------
    ValueError
        With what `who` wanted and what came.
    """
    if x.shape[-1:] != (size,):
        raise misfit(who, f"(..., {size})", x.shape)


def misfit(who: Name, wanted: str, came: tuple[int, ...]) -> ValueError:
    """Return the error that names the layer or operation, the shape it wanted and the one that came."""
    name = who if isinstance(who, str) else who()
    return ValueError(f"{name} needs an input of shape {wanted}, and got one of shape {came}")
