"""Operations that pick elements: indexing."""

from typing import Any

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.tensor import Tensor, raw, record


def _is_basic(index: Any) -> bool:
    """Whether an index is made of integers, slices, None and Ellipsis, so that no element is picked twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return ``x[index]``, with basic, integer-array or boolean indexing."""
    index = tuple(raw(part) for part in index) if isinstance(index, tuple) else raw(index)
    shape, dtype, basic = x.shape, x.dtype, _is_basic(index)

    def vjp(g: Array) -> tuple[Array]:
        dx = np.zeros(shape, dtype)
        if basic:
            dx[index] = g
        else:
            np.add.at(dx, index, g)
        return (dx,)

    return record("getitem", np.asarray(x.data[index]), (x,), vjp)
