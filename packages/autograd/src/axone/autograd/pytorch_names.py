"""Errors for names of PyTorch that do not exist in Axone: each error names the one that does.

References
----------
.. [1] PyTorch, "torch.Tensor", https://pytorch.org/docs/stable/tensors.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Never

ARGUMENTS = {
    "dim": "axis",
    "dims": "axis",
    "dim0": "axis1",
    "dim1": "axis2",
    "keepdim": "keepdims",
    "unbiased": "ddof",
    "correction": "ddof",
    "shifts": "shift",
    "min": "a_min",
    "max": "a_max",
    "p": "ord",
}
"""Arguments of PyTorch's functions, and what they are called here."""

_ON_THE_CPU = "Axone computes on the CPU"
_BOTH = {  # names of functions and of methods alike; `t` is the Tensor
    "absolute": "abs(t)",
    "amax": "t.max(axis=...)",
    "amin": "t.min(axis=...)",
    "bmm": "a @ b",
    "chunk": "axone.autograd.split(t, sections, axis=...)",
    "clamp": "t.clip(min, max)",
    "clone": "t.copy()",
    "div": "a / b",
    "dsplit": "axone.autograd.split(t, sections, axis=2)",
    "eq": "a == b",
    "fliplr": "axone.autograd.flip(t, axis=1)",
    "flipud": "axone.autograd.flip(t, axis=0)",
    "fmod": "a % b",
    "gather": "integer indexing, t[rows, columns]",
    "ge": "a >= b",
    "greater": "a > b",
    "gt": "a > b",
    "hsplit": "axone.autograd.split(t, sections, axis=1)",
    "index_select": "t.take(indices, axis)",
    "inner": "axone.autograd.tensordot(a, b, axes=(-1, -1))",
    "le": "a <= b",
    "less": "a < b",
    "lt": "a < b",
    "masked_fill": "axone.autograd.where(mask, value, t)",
    "masked_select": "t[mask]",
    "mm": "a @ b",
    "moveaxis": "t.transpose(axes)",
    "movedim": "t.transpose(axes)",
    "mul": "a * b",
    "mv": "a @ b",
    "narrow": "a slice, t[start:stop]",
    "ne": "a != b",
    "neg": "-t",
    "numel": "t.size",
    "permute": "t.transpose(axes)",
    "pow": "a ** b",
    "reciprocal": "1 / t",
    "repeat_interleave": "t.repeat(repeats, axis)",
    "rsqrt": "t ** -0.5",
    "scatter": "axone.autograd.where, or integer indexing",
    "select": "integer indexing, t[:, i]",
    "sub": "a - b",
    "swapdims": "t.swapaxes(axis1, axis2)",
    "tile": "axone.autograd.concatenate([t] * n, axis=...)",
    "topk": "t.argsort(axis=...)",
    "true_divide": "a / b",
    "unbind": "iteration, for part in t",
    "unsqueeze": "axone.autograd.expand_dims(t, axis)",
    "vsplit": "axone.autograd.split(t, sections, axis=0)",
}
_IN_PLACE = (
    *(
        "abs",
        "add",
        "addcdiv",
        "addcmul",
        "clamp",
        "clip",
        "copy",
        "div",
        "exp",
        "fill",
        "log",
        "masked_fill",
        "mul",
        "neg",
    ),
    *("normal", "pow", "relu", "sigmoid", "sqrt", "square", "sub", "t", "tanh", "uniform", "zero"),
)
METHODS = _BOTH | {
    "H": "t.swapaxes(-1, -2)",
    "add": "a + b",
    "bfloat16": "t.astype(dtype)",
    "bool": "t.data != 0",
    "contiguous": "t as it is, or numpy.ascontiguousarray(t.data)",
    "cpu": _ON_THE_CPU,
    "cuda": _ON_THE_CPU,
    "data_ptr": "t.data.ctypes.data",
    "device": _ON_THE_CPU,
    "dim": "t.ndim",
    "divide": "a / b",
    "double": "t.astype(numpy.float64)",
    "element_size": "t.data.itemsize",
    "expand": "axone.autograd.broadcast_to(t, shape)",
    "expand_as": "axone.autograd.broadcast_to(t, other.shape)",
    "float": "t.astype(numpy.float32)",
    "get_device": _ON_THE_CPU,
    "grad_fn": "axone.autograd.draw(t)",
    "half": "t.astype(numpy.float16)",
    "int": "t.data.astype(int)",
    "is_contiguous": "t.data.flags.c_contiguous",
    "is_leaf": "t.requires_grad",
    "long": "t.data.astype(int)",
    "mH": "t.swapaxes(-1, -2)",
    "mT": "t.swapaxes(-1, -2)",
    "matmul": "a @ b",
    "multiply": "a * b",
    "ndimension": "t.ndim",
    "negative": "-t",
    "nelement": "t.size",
    "new_ones": "Tensor(numpy.ones(shape))",
    "new_tensor": "Tensor(data)",
    "new_zeros": "Tensor(numpy.zeros(shape))",
    "positive": "+t",
    "power": "a ** b",
    "requires_grad_": "t.requires_grad = True",
    "reshape_as": "t.reshape(other.shape)",
    "retain_grad": "axone.autograd.grad(output, [t])",
    "sort": "t.argsort(axis=...)",
    "split": "axone.autograd.split(t, parts, axis=...), where parts is the number of parts and not their size",
    "stride": "t.data.strides",
    "subtract": "a - b",
    "t": "t.T",
    "to": "t.astype(dtype)",
    "type": "t.dtype, or t.astype(dtype)",
    "type_as": "t.astype(other.dtype)",
    "view": "t.reshape(shape)",
    "view_as": "t.reshape(other.shape)",
}
FUNCTIONS = _BOTH | {
    "FloatTensor": "Tensor(data)",
    "Generator": "numpy.random.default_rng(seed)",
    "arange": "Tensor(numpy.arange(n))",
    "as_tensor": "Tensor(data)",
    "cat": "axone.autograd.concatenate(tensors, axis=...)",
    "bool": "numpy.bool_",
    "concat": "axone.autograd.concatenate(tensors, axis=...)",
    "device": _ON_THE_CPU,
    "empty": "Tensor(numpy.empty(shape))",
    "enable_grad": "the code outside of no_grad()",
    "eye": "Tensor(numpy.eye(n))",
    "flatten": "t.flatten()",
    "float": "numpy.float32",
    "float16": "numpy.float16",
    "float32": "numpy.float32",
    "float64": "numpy.float64",
    "from_numpy": "Tensor(array)",
    "full": "Tensor(numpy.full(shape, value))",
    "inference_mode": "axone.autograd.no_grad()",
    "int": "numpy.int32",
    "int32": "numpy.int32",
    "int64": "numpy.int64",
    "is_grad_enabled": "axone.autograd.extend.is_grad_enabled()",
    "is_tensor": "isinstance(t, Tensor)",
    "linspace": "Tensor(numpy.linspace(start, stop, n))",
    "load": "model.load_state_dict(numpy.load(path))",
    "long": "numpy.int64",
    "manual_seed": "rng = numpy.random.default_rng(seed)",
    "multinomial": "rng.choice(len(p), p=p)",
    "nn": "import axone.nn",
    "ones": "Tensor(numpy.ones(shape))",
    "rand": "Tensor(rng.random(shape))",
    "randint": "rng.integers(low, high, shape)",
    "randn": "Tensor(rng.normal(size=shape))",
    "save": "numpy.savez(path, **model.state_dict())",
    "set_grad_enabled": "axone.autograd.no_grad()",
    "tensor": "Tensor(data)",
    "zeros": "Tensor(numpy.zeros(shape))",
}


class Missing:
    """A name that Tensor does not have, as an attribute of the class that raises an `AttributeError`.

    A ``__getattr__`` would cover all names, but CPython then looks up every attribute of a Tensor the slow way: an
    addition of 8 elements with its backward pass takes 12 % longer.
    """

    __slots__ = ("hint", "name")

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def __get__(self, instance: object, owner: type) -> Never:
        raise AttributeError(_message("Tensor", self.name, self.hint))


PyTorchNames = type(
    "PyTorchNames",
    (),
    {"__slots__": ()}
    | {name: Missing(name, hint) for name, hint in METHODS.items()}
    | {f"{name}_": Missing(f"{name}_", "t[...] = values, inside no_grad()") for name in _IN_PLACE},
)
"""Base class of Tensor with the attributes that users of PyTorch may try."""


class Size(int):
    """The number of elements, as an int; calling it, as PyTorch does for the shape, raises an error."""

    __slots__ = ()

    def __call__(self, *_: object) -> None:
        """Raise the error."""
        raise TypeError("Tensor.size is a number here, the number of elements: use t.shape, or t.shape[axis]")


def missing_function(name: str) -> AttributeError:
    """Return the error for a name that axone.autograd does not have."""
    return AttributeError(_message("module 'axone.autograd'", name, FUNCTIONS.get(name)))


def _message(owner: str, name: str, hint: str | None) -> str:
    use = "" if hint is None else f": {hint}" if hint is _ON_THE_CPU else f": use {hint}"
    return f"{owner} has no attribute {name!r}{use}"


def unknown_argument(function: str, arguments: Mapping[str, object]) -> TypeError:
    """Return the error for keyword arguments that a function does not have.

    Parameters
    ----------
    function : str
        The function's name.
    arguments : mapping
        The unknown arguments.
    """
    name = next(iter(arguments))
    if name in ARGUMENTS:
        return TypeError(f"{function} has no argument {name!r}: use {ARGUMENTS[name]}")
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}")
