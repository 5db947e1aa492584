"""Tensor: an array that knows where it came from; and `record`, by which operations make one.

The class holds data, gradient and a place in the graph. What can be computed with it is in `ops`, one floor up, and
`operators.py` hangs those functions on the class as operators and methods: the declarations below under
``TYPE_CHECKING`` tell type checkers what it hangs where, and a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from axone.autograd import tape
from axone.autograd.arrays import Array, Axis, Shape, to_array
from axone.autograd.mode import mode
from axone.autograd.tape import Leaf, Node


class Tensor:
    """An n-dimensional array that records what is computed with it, so that gradients can be walked back.

    Parameters
    ----------
    data : array_like
        Python numbers and lists become float32; an array keeps its dtype and is not copied.
    requires_grad : bool, default False
        Whether `backward` leaves a gradient in `.grad`.
    dtype : dtype, optional
        Convert `data` to this first.

    Attributes
    ----------
    data : ndarray
        The values. Writing to it is never recorded.
    grad : ndarray or None
        The sum of the gradients of all backwards since `zero_grad`; None before the first.
    requires_grad : bool
        Whether gradients flow to it: true for parameters, and for every recorded result.

    Raises
    ------
    TypeError
        If a Tensor of integers or booleans shall require gradients.

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
                f"only a Tensor of floating-point numbers can require gradients, and this one is {self.data.dtype}: "
                "convert it first, for instance with dtype=np.float32"
            )
        self.requires_grad = requires_grad
        self._node: Node | None = None  # the operation that computed it, if that was recorded
        self._leaf: Leaf | None = None  # its place in graphs otherwise, once it is in one or has a gradient

    @property
    def grad(self) -> Array | None:
        """The sum of the gradients of all backwards since `zero_grad`; None before the first."""
        leaf = self._leaf
        if leaf is None:
            return None
        if leaf.is_void and leaf.gradient is not None:
            leaf.gradient.fill(0)
        leaf.is_zero = leaf.is_void = False  # whoever holds the array may write to it
        return leaf.gradient

    @grad.setter
    def grad(self, gradient: Array | None) -> None:
        if gradient is not None and gradient.shape != self.data.shape:
            raise ValueError(f"grad must have the Tensor's shape {self.data.shape}, and this has {gradient.shape}")
        leaf = leaf_of(self)
        leaf.gradient = gradient
        leaf.is_zero = leaf.is_void = False

    def zero_grad(self) -> None:
        """Set the gradient to zero, in place: the array stays, and with it any buffer that it is a view of.

        The next backward then overwrites it instead of adding to it, unless `grad` has been looked at in between.
        """
        leaf = self._leaf
        if leaf is not None and leaf.gradient is not None and (leaf.is_void or not leaf.is_zero):
            leaf.gradient.fill(0)
            leaf.is_zero, leaf.is_void = True, False

    def discard_grad(self) -> None:
        """Set the gradient to zero, but leave the writing of zeros to whoever first looks at `grad`.

        The array stays, and until then it holds what it held. A backward that comes first overwrites it, so that a
        pass over the memory is saved; a trainer that reads one flat buffer looks at every `grad` before.
        """
        leaf = self._leaf
        if leaf is not None and leaf.gradient is not None and not leaf.is_zero:
            leaf.is_zero = leaf.is_void = True

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
        return self.data.size

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
            raise ValueError(f"item() needs a Tensor of one element, and this one has shape {self.shape}")
        return self.data.item()

    def numpy(self) -> Array:
        """Return the data: the array itself, not a copy."""
        return self.data

    def detach(self) -> Tensor:
        """Return a Tensor of the same array that is not part of the graph."""
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
            If there is nothing to walk back through, or another backward has been there.
        ValueError
            If `gradient` is missing for more than one element, or has another shape.
        """
        place = self._node or _place(self)
        tape.backward(
            place,
            tape.default_gradient(self.data) if gradient is None else tape.checked_gradient(self.data, raw(gradient)),
        )

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the data for ``np.asarray(t)``, unless gradients would be lost that way without a word."""
        if self.requires_grad:
            raise TypeError(
                f"NumPy would make a plain array of this Tensor of shape {self.shape}, which requires gradients: "
                "give it .data if that is meant, and use the operations of axone.autograd if it is not"
            )
        return np.array(self.data, dtype, copy=copy)

    def __contains__(self, value: Operand) -> bool:
        return bool((self == value).any())

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("a 0-d Tensor cannot be iterated over: use item()")
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
        """Format the only element, as in ``f"{loss:.4f}"``; without a format, any Tensor as `repr` does."""
        return format(self.item(), spec) if spec else repr(self)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=100)
        if self._node is not None:
            note = f", from={self._node.name!r}"
        else:
            note = ", requires_grad=True" if self.requires_grad else ""
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"Tensor({body}{dtype}{note})"

    # Comparisons give boolean arrays and are not recorded; hashing is by identity.
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
        in_graph = self._leaf is not None and sys.getrefcount(self._leaf) > _OURS
        if in_graph or (self._node is not None and not self._node.consumed):
            raise RuntimeError(
                f"an in-place write needs a Tensor that no recorded operation depends on, and this one of shape "
                f"{self.shape} is part of a graph: call backward first, write to a copy, or use where()"
            )
        if self.requires_grad and mode.recording:
            raise RuntimeError(
                f"an in-place write is not recorded, and this Tensor of shape {self.shape} requires gradients: "
                "write inside no_grad(), or use where()"
            )
        if mode.recording and needs_grad(value):
            raise RuntimeError(
                f"an in-place write is not recorded, and the values of shape {value.shape} require gradients: "
                "write their .data, or use where() or concatenate()"
            )
        self.data[index] = raw(value)

    if TYPE_CHECKING:  # hung on the class by operators.py

        def __add__(self, other: Operand) -> Tensor: ...
        def __radd__(self, other: Operand) -> Tensor: ...
        def __sub__(self, other: Operand) -> Tensor: ...
        def __rsub__(self, other: Operand) -> Tensor: ...
        def __mul__(self, other: Operand) -> Tensor: ...
        def __rmul__(self, other: Operand) -> Tensor: ...
        def __truediv__(self, other: Operand) -> Tensor: ...
        def __rtruediv__(self, other: Operand) -> Tensor: ...
        def __pow__(self, other: Operand) -> Tensor: ...
        def __rpow__(self, other: Operand) -> Tensor: ...
        def __matmul__(self, other: Operand) -> Tensor: ...
        def __rmatmul__(self, other: Operand) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...  # noqa: N802 - NumPy's name
        def astype(self, dtype: DTypeLike) -> Tensor: ...
        def clip(self, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor: ...
        def cumsum(self, axis: int | None = None) -> Tensor: ...
        def max(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: int | Sequence[int]) -> Tensor: ...
        def squeeze(self, axis: Axis = None) -> Tensor: ...
        def std(self, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False) -> Tensor: ...
        def sum(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def take(self, indices: ArrayLike, axis: int | None = None) -> Tensor: ...
        def transpose(self, *axes: int | Sequence[int] | None) -> Tensor: ...
        def var(self, axis: Axis = None, *, ddof: int = 0, keepdims: bool = False) -> Tensor: ...


_OURS = 2  # references to a Leaf outside of graphs: that of its Tensor, and the one of asking

Operand: TypeAlias = Tensor | ArrayLike
"""What stands beside a Tensor in an operation: another one, an array, a list, a number."""


def raw(value: object) -> Any:
    """Return the array of a Tensor, and anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def needs_grad(value: object) -> TypeGuard[Tensor]:
    """Return whether a gradient for an input is wanted, so that a `vjp` can leave out what is not.

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
    >>> needs_grad(Tensor(1.0, requires_grad=True)), needs_grad(Tensor(1.0)), needs_grad(1.0)
    (True, False, False)
    """
    return isinstance(value, Tensor) and value.requires_grad


def is_leaf(value: object) -> bool:
    """Return whether a Tensor was made by the user, as a weight is: worth a recipe, see `Deferred`."""
    return isinstance(value, Tensor) and value._node is None


def grad(output: Tensor, inputs: Sequence[Tensor], gradient: ArrayLike | None = None) -> list[Array]:
    """Return the gradients of `output` with respect to `inputs`, leaving every `.grad` alone.

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
        If there is nothing to walk back through, or another backward has been there.
    TypeError
        If `inputs` is a single Tensor.

    Examples
    --------
    >>> from axone.autograd import Tensor, grad
    >>> x = Tensor([1.0, 3.0], requires_grad=True)
    >>> grad((x * x).sum(), [x])
    [array([2., 6.], dtype=float32)]
    """
    if isinstance(inputs, Tensor):
        raise TypeError("grad needs a sequence of Tensors, and got one: put it into a list")
    places = [source._node or leaf_of(source) for source in inputs]
    start = _place(output)
    seed = tape.default_gradient(output.data) if gradient is None else tape.checked_gradient(output.data, raw(gradient))
    found = tape.backward(start, seed, wanted=set(places))
    for array in found.values():
        tape.refuse_complex(array)
    return [found[place].copy() if place in found else np.zeros_like(t.data) for place, t in zip(places, inputs)]


def leaf_of(tensor: Tensor) -> Leaf:
    """Return the Leaf that stands for a Tensor in the graph."""
    if tensor._leaf is None:
        tensor._leaf = Leaf()
    leaf = tensor._leaf
    leaf.data = tensor.data
    leaf.wanted = tensor.requires_grad
    return leaf


def _place(tensor: Tensor) -> Node | Leaf:
    """Return where a walk back from `tensor` starts."""
    if not tensor.requires_grad:
        raise RuntimeError(
            f"backward needs a Tensor that was computed, while recording, from one with requires_grad=True, and this "
            f"one of shape {tensor.shape} was not"
        )
    return tensor._node or leaf_of(tensor)
