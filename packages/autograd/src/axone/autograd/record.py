"""`record`: how an operation makes the Tensor that it returns, and puts itself into the graph.

It runs once for each operation, so its lines are counted: objects are made without a call of their ``__init__``, and the
common case looks nothing up twice.
"""

from collections.abc import Sequence

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.mode import mode
from axone.autograd.tape import VJP, Leaf, Node, next_index
from axone.autograd.tensor import Operand, Tensor, leaf_of

_new = object.__new__
_ndarray = np.ndarray


def record(name: str, data: Array, inputs: Sequence[Operand], vjp: VJP) -> Tensor:
    """Make the Tensor that an operation returns, and record the operation if a gradient may be wanted.

    Parameters
    ----------
    name : str
        The operation's name, for error messages and pictures.
    data : ndarray
        What the operation computed.
    inputs : sequence of Tensor or array_like
        What it was computed from. All but Tensors are constants.
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
    ...     return record("softplus", np.logaddexp(data, 0), (x,), lambda g: (g / (1 + np.exp(-data)),))
    >>> x = Tensor([0.0], requires_grad=True)
    >>> softplus(x).backward()
    >>> x.grad
    array([0.5], dtype=float32)
    """
    out = _new(Tensor)
    out.data = data = data if type(data) is _ndarray else np.asarray(data)
    out._leaf = node = None
    wanted = False
    if mode.recording:
        places: list[Node | Leaf | None] = []
        for source in inputs:
            place: Node | Leaf | None = None
            if isinstance(source, Tensor):
                if source.requires_grad:
                    wanted = True
                place = source._node
                if place is None:
                    place = source._leaf or leaf_of(source)
                    place.data = source.data
                    place.wanted = source.requires_grad
            places.append(place)
        if wanted:
            node = Node()
            node.index = next_index()
            node.name = name
            node.shape = data.shape
            node.inputs = places
            node.vjp = vjp
    out._node = node
    out.requires_grad = wanted
    for watcher in mode.watchers:
        watcher._computed(name, data, inputs, node)
    return out
