"""Anomaly detection: finds the operation that made a NaN or an infinity, and raw writes that corrupt a backward pass.

Inside `detect_anomaly` every result and every gradient is checked, and each array that a vector-Jacobian product holds
must have the same checksum when the product runs. That takes time, so use it when something is wrong. The state is
thread-local, as that of `no_grad` is.
"""

from __future__ import annotations

import functools
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from types import CellType, FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array, Shape
from axone.autograd.deferred import Deferred
from axone.autograd.mode import Observer
from axone.autograd.tape import VJP, Gradient, Node
from axone.autograd.tensor import raw


class AnomalyError(ArithmeticError):
    """Error for an operation that made a NaN or an infinity, or for a write to an array that backward needs."""


class detect_anomaly(Observer):  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Stop at the operation that first made a NaN or an infinity, forward or backward; a context manager.

    An infinity among the inputs of an operation may appear in its result, as the minus infinity of a mask does; a NaN may
    not. A raw write to the ``.data`` of a Tensor is found when the backward pass reaches an operation that needs the
    overwritten values.

    Raises
    ------
    AnomalyError
        Names the operation and the line that called it.

    Examples
    --------
    >>> from axone.autograd import Tensor, detect_anomaly, log
    >>> x = Tensor([1.0, 0.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     log(x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    axone.autograd.anomaly.AnomalyError: log of shape (2,) made an infinity, at ...
    """

    def __init__(self) -> None:
        self._silence = _Silence()

    def _on_enter(self) -> None:
        """Silence NumPy's warnings, because the errors say more; see `Observer`."""
        self._silence.entered.append(np.errstate(all="ignore"))
        self._silence.entered[-1].__enter__()

    def _on_exit(self) -> None:
        """Restore the warnings; see `Observer`."""
        self._silence.entered.pop().__exit__(None, None, None)

    def _on_operation(self, name: str, data: Array, inputs: Sequence[object], node: Node | None) -> None:
        """Check a result, and wrap the vector-Jacobian product to check its gradients; see `Observer`."""
        operation = f"{name} of shape {data.shape}"
        line = _users_line()
        fault = _fault(data, [raw(x) for x in inputs])
        if fault:
            raise AnomalyError(f"{operation} {fault}, at {line}")
        if node is not None and node.vjp is not None:
            shapes = [() if source is None else source.shape for source in node.inputs]
            node.vjp = _checked(node.vjp, shapes, f"{operation}, computed at {line},")


class _Silence(threading.local):
    """The `numpy.errstate` contexts that one thread has entered and not left."""

    def __init__(self) -> None:
        self.entered: list[np.errstate] = []


def _fault(result: Array, inputs: Sequence[Any]) -> str:
    """Return the fault of a result that was computed from these inputs; an empty string if there is none."""
    if result.dtype.kind != "f" or np.isfinite(result).all():
        return ""
    arrays = [array for array in map(np.asarray, inputs) if array.dtype.kind == "f"]
    if np.isnan(result).any():
        had = any(np.isnan(array).any() for array in arrays)
        return "was given a NaN" if had else "made a NaN"
    return "" if any(np.isinf(array).any() for array in arrays) else "made an infinity"


def _checked(vjp: VJP, shapes: Sequence[Shape], operation: str) -> VJP:
    """Return a vector-Jacobian product that checks the arrays that it holds before it runs, and its gradients after."""
    held = list(_arrays(vjp))
    before = [_checksum(array) for array in held]

    @functools.wraps(vjp)
    def checked(g: Array) -> Sequence[Gradient]:
        for array, checksum in zip(held, before):
            if _checksum(array) != checksum:
                raise AnomalyError(
                    f"{operation} needs an array of shape {array.shape} for its backward, but the array was written to: "
                    "write to a copy, or after the backward pass"
                )
        gradients = list(vjp(g))
        for i, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if isinstance(gradient, Deferred):
                gradients[i] = array = np.empty(shapes[i], g.dtype)
                gradient.write(array)
            else:
                array = gradient
            fault = _fault(np.asarray(array), [g])
            if fault:
                raise AnomalyError(f"the backward of {operation} {fault} in the gradient of input {i}")
        return gradients

    return checked


def _arrays(holder: Any, depth: int = 0) -> Iterator[NDArray[Any]]:
    """Yield the arrays that a function holds in its closure, including those in tuples, lists and functions."""
    if isinstance(holder, np.ndarray):
        yield holder
    elif depth > 4:  # no closure of this package is deeper
        return
    elif isinstance(holder, (tuple, list)):
        for item in holder:
            yield from _arrays(item, depth + 1)
    elif isinstance(holder, functools.partial):
        yield from _arrays((holder.func, *holder.args, *holder.keywords.values()), depth + 1)
    elif closure := getattr(holder, "__closure__", None):
        yield from _arrays([cell.cell_contents for cell in closure if _is_filled(cell)], depth + 1)


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if it is empty
    except ValueError:
        return False
    return True


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(array.tobytes())


def _users_line() -> str:
    """Return file and line of the innermost caller outside this package, and of the innermost outside Axone."""
    frame: FrameType | None = sys._getframe(2)
    lines: list[str] = []
    for package in ("axone.autograd", "axone"):
        while frame is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(f"{package}."):
            frame = frame.f_back
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
    return ", called from ".join(dict.fromkeys(lines)) or "an unknown line"
