"""`record`: makes the Tensor that an operation returns, and adds the operation to the graph.

It runs once for each operation, so every line costs: objects are created without calling their ``__init__``, and the
common case looks nothing up twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.mode import mode
from axone.autograd.tape import VJP, Leaf, Node, next_index
from axone.autograd.tensor import Operand, Tensor, leaf_of

_new = object.__new__
_ndarray = np.ndarray


def record(name: str, data: Array, inputs: Sequence[Operand], vjp: VJP) -> Tensor:
    """Make the Tensor that an operation returns, and record the operation if an input requires a gradient.

    Parameters
    ----------
    name : str
        The operation's name, for error messages, profiles and pictures.
    data : ndarray
        The result of the operation.
    inputs : sequence of Tensor or array_like
        The inputs of the operation. All but Tensors are constants.
    vjp : callable
        Takes the gradient of the output, an array of the shape of `data` that it must not change, and returns one
        array or None for each input. A gradient may have the shape to which its input was broadcast: the engine sums
        it back. It should hold arrays, never a Tensor, and may reuse the arrays that its own forward allocated.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.extend import record
    >>> def softplus(x):
    ...     data = x.data
    ...     return record(
    ...         "softplus",
    ...         np.logaddexp(data, 0),
    ...         (x,),
    ...         lambda g: (g / (1 + np.exp(-data)),),
    ...     )
    >>> x = Tensor([0.0], requires_grad=True)
    >>> softplus(x).backward()
    >>> x.grad
    array([0.5], dtype=float32)
    """
    out = _new(Tensor)
    out.data = data = data if type(data) is _ndarray else np.asarray(data)
    out._leaf = node = None
    requires_grad = False
    if mode.grad_enabled:
        sources: list[Node | Leaf | None] = []
        for value in inputs:
            source: Node | Leaf | None = None
            if isinstance(value, Tensor):
                if value.requires_grad:
                    requires_grad = True
                source = value._node
                if source is None:
                    source = value._leaf or leaf_of(value)
                    source.data = value.data
                    source.requires_grad = value.requires_grad
            sources.append(source)
        if requires_grad:
            node = Node()
            node.index = next_index()
            node.name = name
            node.shape = data.shape
            node.inputs = sources
            node.vjp = vjp
    out._node = node
    out.requires_grad = requires_grad
    for observer in mode.observers:
        observer._on_operation(name, data, inputs, node)
    return out
