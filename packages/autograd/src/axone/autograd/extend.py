"""Interface for operations outside this package: `record`, deferred gradients, memory reuse and thread state.

An operation is one typed function: the NumPy forward, a nested ``vjp(g)`` that returns a gradient for each input, and
one call of `record`. The rules of a `vjp`:

- It is given the gradient of the output, of the output's shape, and must not write to it.
- It returns one gradient or None for each input. A gradient may have the shape to which its input was broadcast: the
  engine sums it back. The engine does not own the gradients and copies those that it keeps, so ``(g, g)`` is fine.
- It holds arrays and shapes, never a Tensor: that would make a reference cycle, which reference counting does not free.
- It runs once, and may overwrite arrays that its own forward allocated, but no input.
- `needs_grad` tells in the forward which inputs require a gradient, so that the `vjp` can skip the others.
- It selects by `mask_gradient` instead of multiplying by a mask, because an infinite gradient times zero is NaN.

Instead of an array it may return a `Deferred`, which receives the array to write to. The gradient of a weight is then
computed directly into the weight's own gradient, which may be a view of one flat buffer::

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        rows, w = x.data, weight.data  # (N, in), (out, in)

        def vjp(g: Array) -> tuple[Gradient, Gradient]:
            return g @ w, Product(g.T, rows)

        return record("linear", rows @ w.T, (x, weight), vjp)

The engine calls ``write(out)`` for the first gradient of an input, on a new array or on a gradient that `zero_grad` has
cleared; for further gradients it calls ``add(out)``. `Product` is a matrix product, `Rows` the sum of looked-up rows
(embeddings); `Part` and `Scattered` are the gradients of indexing. A class of your own derives from `Deferred` and
defines ``write``, and ``add`` if it can add without a temporary array.

`axone.autograd.testing.check_grads` compares the gradient with finite differences.
"""

from axone.autograd.arrays import Array, mask_gradient, unbroadcast
from axone.autograd.deferred import Deferred, Part, Product, Rows, Scattered
from axone.autograd.memory import empty, empty_like, reused_memory
from axone.autograd.mode import is_grad_enabled, is_observed, with_observers
from axone.autograd.record import record
from axone.autograd.tape import VJP, Gradient
from axone.autograd.tensor import Operand, discard_grad, needs_grad

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
    "discard_grad",
    "empty",
    "empty_like",
    "is_grad_enabled",
    "is_observed",
    "mask_gradient",
    "needs_grad",
    "record",
    "reused_memory",
    "unbroadcast",
    "with_observers",
]
