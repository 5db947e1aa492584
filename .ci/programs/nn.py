"""A user's program with axone-nn installed alone: `mypy --strict` reads the types from the wheel."""

from collections.abc import Iterator
from typing import assert_type

import numpy as np

from axone.autograd import Tensor
from axone.nn import Module, MultiHeadAttention, Parameter
from axone.nn.functional import gelu

attention = MultiHeadAttention(8, num_heads=2)
x = Tensor(np.ones((2, 3, 8), dtype=np.float32))
assert_type(attention(x), Tensor)
assert_type(gelu(x), Tensor)
assert_type(attention.parameters(), Iterator[Parameter])


class Scale(Module):
    """A custom layer."""

    def __init__(self) -> None:
        self.scale = Parameter(np.ones(8, dtype=np.float32))

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.scale


if Scale()(x).shape != x.shape:
    raise SystemExit("a layer that scales must keep the shape")
