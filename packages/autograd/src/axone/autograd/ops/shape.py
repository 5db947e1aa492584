"""Operations that move elements without computing: reshapes and transpositions."""

from collections.abc import Sequence

import numpy as np

from axone.autograd.tensor import Tensor, record


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """Return the elements in another shape, given as one sequence or as separate lengths."""
    before = x.shape
    after = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    try:
        data = x.data.reshape(after)  # type: ignore[arg-type]  # NumPy checks it
    except ValueError:
        raise ValueError(f"reshape needs a shape of {x.size} elements for shape {before}, and got {after}") from None
    return record("reshape", data, (x,), lambda g: (g.reshape(before),))


def transpose(x: Tensor, *axes: int | Sequence[int] | None) -> Tensor:
    """Return the axes in another order, by default reversed."""
    given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else (axes or None)
    order = tuple(range(x.ndim))[::-1] if given is None else tuple(int(axis) % x.ndim for axis in given)  # type: ignore[arg-type]  # ints by now
    inverse = np.argsort(order)
    return record("transpose", x.data.transpose(order), (x,), lambda g: (g.transpose(inverse),))
