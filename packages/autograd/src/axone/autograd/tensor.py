"""Tensor: an array with a gradient and its position in the graph; and `grad`.

The operations are functions in `ops`, which imports this module. `methods.py` then sets them on the class as operators
and methods; `declarations.pyi` declares these to type checkers, and a test checks that both agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from axone.autograd import tape
from axone.autograd.arrays import Array, Shape, to_array
from axone.autograd.mode import mode
from axone.autograd.pytorch_names import PyTorchNames, Size
from axone.autograd.tape import Leaf, Node

if TYPE_CHECKING:
    from axone.autograd.declarations import TensorMethods
else:
    TensorMethods = PyTorchNames


class Tensor(TensorMethods):
    """An n-dimensional array that records the operations on it, so that `backward` can compute gradients.

    Parameters
    ----------
    data : array_like
        Python numbers and lists become float32; an array keeps its dtype and is not copied.
    requires_grad : bool, default False
        Whether `backward` accumulates a gradient in `.grad`.
    dtype : dtype, optional
        Convert `data` to this first.

    Attributes
    ----------
    data : ndarray
        The values. Writing to it is never recorded.
    grad : ndarray or None
        The sum of the gradients of all backward passes since `zero_grad`; None before the first.
    requires_grad : bool
        Whether gradients flow to it: true for parameters, and for every recorded result.

    Raises
    ------
    TypeError
        If `data` are not numbers, or if a Tensor of integers or booleans should require gradients.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_leaf", "_node", "data", "requires_grad")

    data: Array
    requires_grad: bool

    def __init__(self, data: ArrayLike, *, requires_grad: bool = False, dtype: DTypeLike | None = None) -> None:
        self.data = to_array(data, dtype)
        if requires_grad and not np.issubdtype(self.data.dtype, np.floating):
            raise TypeError(
                f"requires_grad=True needs floating-point numbers, got {self.data.dtype}: convert them, for instance with "
                "dtype=np.float32"
            )
        self.requires_grad = requires_grad
        self._node: Node | None = None  # the operation that computed it, if it was recorded
        self._leaf: Leaf | None = None  # represents it in graphs otherwise, from its first operation or gradient on

    @property
    def grad(self) -> Array | None:
        """The sum of the gradients of all backward passes since `zero_grad`; None before the first."""
        leaf = self._leaf
        if leaf is None:
            return None
        if leaf.is_stale and leaf.gradient is not None:
            leaf.gradient.fill(0)
        leaf.is_zero = leaf.is_stale = False  # the caller may write to the array
        return leaf.gradient

    @grad.setter
    def grad(self, gradient: Array | None) -> None:
        if gradient is not None and gradient.shape != self.data.shape:
            raise ValueError(f"grad has shape {gradient.shape}, it must have the Tensor's shape {self.data.shape}")
        leaf = leaf_of(self)
        leaf.gradient = gradient
        leaf.is_zero = leaf.is_stale = False

    def zero_grad(self) -> None:
        """Set the gradient to zero in place, which keeps the array and any flat buffer that it is a view of.

        The next backward pass overwrites the zeros instead of adding to them, unless `grad` was read in between.
        """
        leaf = self._leaf
        if leaf is not None and leaf.gradient is not None and (leaf.is_stale or not leaf.is_zero):
            leaf.gradient.fill(0)
            leaf.is_zero, leaf.is_stale = True, False

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return Size(self.data.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.data.dtype

    def item(self) -> float:
        """Return the only element as a Python number.

        Raises
        ------
        ValueError
            If there is not exactly one.
        """
        if self.data.size != 1:
            raise ValueError(f"item needs a Tensor of one element, got shape {self.shape}")
        return self.data.item()

    def numpy(self) -> Array:
        """Return the data: the array itself, not a copy."""
        return self.data

    def detach(self) -> Tensor:
        """Return a Tensor of the same array, not copied, that is not part of the graph."""
        return Tensor(self.data)

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Add the gradients of this Tensor to the `.grad` of every leaf that it depends on, and consume the graph.

        Parameters
        ----------
        gradient : array_like, shape of this Tensor, optional
            The gradient of the final result with respect to this Tensor; 1 if this Tensor is a single number.

        Raises
        ------
        RuntimeError
            If the Tensor does not require gradients, or if another backward pass has consumed the graph.
        TypeError
            If numbers are complex.
        ValueError
            If `gradient` is missing for more than one element, or has another shape.
        """
        data, root = self.data, self._node or _root(self)
        tape.backward(
            root, tape.default_gradient(data) if gradient is None else tape.checked_gradient(data, raw(gradient))
        )

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the data for ``np.asarray(t)``, unless that would drop gradients silently."""
        if self.requires_grad:
            raise TypeError(
                f"NumPy would drop the gradients of a Tensor of shape {self.shape}: pass its .data if a plain array is "
                "meant, otherwise use the operations of axone.autograd"
            )
        return np.array(self.data, dtype, copy=copy)

    def __contains__(self, value: Operand) -> bool:
        return bool((self == value).any())

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration needs a Tensor of at least one axis, got shape (): use item()")
        return (self[i] for i in range(len(self.data)))

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """Format the only element, as in ``f"{loss:.4f}"``; without a format, any Tensor as in `repr`."""
        return format(self.item(), spec) if spec else repr(self)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=100)
        if self._node is not None:
            note = f", from={self._node.name!r}"
        else:
            note = ", requires_grad=True" if self.requires_grad else ""
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"Tensor({body}{dtype}{note})"

    # Comparisons return boolean arrays and are not recorded; hashing is by identity.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]  # elementwise, as in NumPy
        return np.asarray(self.data == raw(other))

    def __ne__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]  # elementwise, as in NumPy
        return np.asarray(self.data != raw(other))

    def __lt__(self, other: Operand) -> NDArray[np.bool_]:
        return np.asarray(self.data < raw(other))

    def __le__(self, other: Operand) -> NDArray[np.bool_]:
        return np.asarray(self.data <= raw(other))

    def __gt__(self, other: Operand) -> NDArray[np.bool_]:
        return np.asarray(self.data > raw(other))

    def __ge__(self, other: Operand) -> NDArray[np.bool_]:
        return np.asarray(self.data >= raw(other))

    def __setitem__(self, index: Any, value: Operand) -> None:
        """Write in place, outside the graph.

        Raises
        ------
        RuntimeError
            If a recorded operation still needs the values, or the Tensor requires gradients while recording.
        """
        in_graph = self._leaf is not None and tape.graph_references(self._leaf) > 0
        if in_graph or (self._node is not None and not self._node.consumed):
            raise RuntimeError(
                f"an in-place write would change a Tensor of shape {self.shape} that is part of a graph: call backward "
                "first, write to a copy, or use where()"
            )
        if self.requires_grad and mode.grad_enabled:
            raise RuntimeError(
                f"an in-place write to a Tensor of shape {self.shape} that requires gradients is not recorded: write "
                "inside no_grad(), or use where()"
            )
        if mode.grad_enabled and needs_grad(value):
            raise RuntimeError(
                f"an in-place write of values of shape {value.shape} that require gradients is not recorded: write their "
                ".data, or use where() or concatenate()"
            )
        self.data[index] = raw(value)


Operand: TypeAlias = Tensor | ArrayLike
"""An input of an operation: a Tensor, an array, a list, or a number."""


def raw(value: object) -> Any:
    """Return the array of a Tensor; return any other value unchanged."""
    return value.data if isinstance(value, Tensor) else value


def needs_grad(value: object) -> TypeGuard[Tensor]:
    """Return whether an input requires a gradient, so that a `vjp` can skip the gradients of the others.

    Parameters
    ----------
    value : Tensor or array_like
        An input of an operation.

    Returns
    -------
    bool
        True for a Tensor that requires gradients.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.extend import needs_grad
    >>> (
    ...     needs_grad(Tensor(1.0, requires_grad=True)),
    ...     needs_grad(Tensor(1.0)),
    ...     needs_grad(1.0),
    ... )
    (True, False, False)
    """
    return isinstance(value, Tensor) and value.requires_grad


def is_leaf(value: object) -> bool:
    """Return whether a value is a Tensor that the user made, as a weight is: worth a deferred gradient."""
    return isinstance(value, Tensor) and value._node is None


def grad(output: Tensor, inputs: Sequence[Tensor], gradient: ArrayLike | None = None) -> list[Array]:
    """Return the gradients of `output` with respect to `inputs`, without changing any `.grad`.

    Parameters
    ----------
    output : Tensor
        A single number, unless `gradient` is given. Its graph is consumed, as by `backward`.
    inputs : sequence of Tensor
        Parameters or intermediate results.
    gradient : array_like, shape of `output`, optional
        The gradient of the final result with respect to `output`.

    Returns
    -------
    list of ndarray
        One for each input, of its shape; zeros where `output` does not depend on it.

    Raises
    ------
    RuntimeError
        If `output` does not require gradients, or if another backward pass has consumed the graph.
    TypeError
        If `inputs` is a single Tensor, or if numbers are complex.

    Examples
    --------
    >>> from axone.autograd import Tensor, grad
    >>> x = Tensor([1.0, 3.0], requires_grad=True)
    >>> grad((x * x).sum(), [x])
    [array([2., 6.], dtype=float32)]
    """
    if isinstance(inputs, Tensor):
        raise TypeError("inputs of grad must be a sequence of Tensors, got one Tensor: put it into a list")
    vertices = [tensor._node or leaf_of(tensor) for tensor in inputs]
    data, root = output.data, _root(output)
    seed = tape.default_gradient(data) if gradient is None else tape.checked_gradient(data, raw(gradient))
    found = tape.backward(root, seed, set(vertices))
    for array in found.values():
        tape.refuse_complex(array)
    return [found[vertex].copy() if vertex in found else np.zeros_like(t.data) for vertex, t in zip(vertices, inputs)]


def discard_grad(tensor: Tensor) -> None:
    """Mark a gradient as zero without writing zeros: the next backward pass overwrites it, which saves a write.

    The array stays, and holds its old numbers until the backward pass or until `grad` is read, which fills it with
    zeros. Read every `grad` before you read a flat buffer of which the gradients are views.

    Parameters
    ----------
    tensor : Tensor

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.extend import discard_grad
    >>> w = Tensor([1.0, 2.0], requires_grad=True)
    >>> (w * 3.0).sum().backward()
    >>> discard_grad(w)
    >>> w.grad
    array([0., 0.], dtype=float32)
    """
    leaf = tensor._leaf
    if leaf is not None and leaf.gradient is not None and not leaf.is_zero:
        leaf.is_zero = leaf.is_stale = True


def leaf_of(tensor: Tensor) -> Leaf:
    """Return the Leaf that represents a Tensor in graphs."""
    if tensor._leaf is None:
        tensor._leaf = Leaf()
    leaf = tensor._leaf
    leaf.data = tensor.data
    leaf.requires_grad = tensor.requires_grad
    return leaf


def _root(tensor: Tensor) -> Node | Leaf:
    """Return the Node or Leaf at which a backward pass of `tensor` starts."""
    if not tensor.requires_grad:
        raise RuntimeError(
            f"backward of a Tensor of shape {tensor.shape} needs recorded operations: compute it from a Tensor with "
            "requires_grad=True, outside of no_grad()"
        )
    return tensor._node or leaf_of(tensor)
