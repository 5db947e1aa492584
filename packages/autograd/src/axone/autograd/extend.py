"""What a third party needs to write an operation exactly as this package does: `record`, recipes for gradients, types.

An operation is one typed function: the NumPy forward, a nested ``vjp(g)`` that returns a gradient for each input, and
one call of `record`. The rules of a `vjp`:

- It is given the gradient of the output, of the output's shape, and must not write to it.
- It returns one gradient or None for each input. A gradient may have the shape to which its input was broadcast: the
  engine sums it back. The engine owns none of them and copies what it keeps, so ``(g, g)`` is fine.
- It holds arrays and shapes, never a Tensor: a Tensor in it would make a cycle that reference counting does not free.
- It runs once, and may overwrite arrays that its own forward allocated, but no input.
- `needs_grad` tells beforehand which inputs want a gradient, so that products that nobody wants are not computed.

In place of an array it may return a `Deferred`, a recipe that is told where its result belongs. The gradient of a
weight then goes straight into the weight's own gradient, which may be a part of one flat buffer::

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        rows, w = x.data, weight.data  # (N, in), (out, in)

        def vjp(g: Array) -> tuple[Gradient, Gradient]:
            return g @ w, Product(g.T, rows)

        return record("linear", rows @ w.T, (x, weight), vjp)

The engine calls ``write(out)`` where nothing has arrived yet: on a new array, or on the gradient that `zero_grad` has
just cleared, which is overwritten and not added to. Otherwise it calls ``add(out)``. `Product` is a matrix product,
`Rows` the sum of looked-up rows (embeddings), `Part` and `Scattered` are those of indexing. A class of your own
derives from `Deferred` and defines ``write``, and ``add`` where that can be done without a temporary array.

`axone.autograd.testing.check_grads` compares the gradient with finite differences.
"""

from axone.autograd.arrays import Array, unbroadcast
from axone.autograd.deferred import Deferred, Part, Product, Rows, Scattered
from axone.autograd.memory import empty, empty_like, reused_memory
from axone.autograd.mode import is_watched, watched_alike
from axone.autograd.record import record
from axone.autograd.tape import VJP, Gradient
from axone.autograd.tensor import Operand, needs_grad

__all__ = [
    "VJP",
    "Array",
    "Deferred",
    "Gradient",
    "Operand",
    "Part",
    "Product",
    "Rows",
    "Scattered",
    "empty",
    "empty_like",
    "is_watched",
    "needs_grad",
    "record",
    "reused_memory",
    "unbroadcast",
    "watched_alike",
]
