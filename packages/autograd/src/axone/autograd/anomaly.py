"""Finding the operation that made a NaN or an infinity, and the raw write that spoiled a backward.

Inside `detect_anomaly` every result and every gradient is looked at, and of every array that a vector-Jacobian product
holds a checksum is taken, which must still be the same when the product runs. That costs time, so it is switched on
when something is wrong. The state belongs to the thread, as that of `no_grad` does.
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
from axone.autograd.mode import Watcher
from axone.autograd.tape import VJP, Gradient, Node
from axone.autograd.tensor import raw


class AnomalyError(ArithmeticError):
    """An operation made a NaN or an infinity, or an array that backward needs was written to."""


class detect_anomaly(Watcher):  # noqa: N801 - lower case as a context manager, as in PyTorch
    """Stop at the operation that first made a NaN or an infinity, forward or backward; a context manager.

    Infinities that an operation was given may pass on, as the minus infinity of a mask does; a NaN never. A raw write
    to the ``.data`` of a Tensor is found when the backward comes to an operation that needs what was there before.

    Raises
    ------
    AnomalyError
        Naming the operation and the line that called it.

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

    def _entered(self) -> None:
        """Silence NumPy's warnings, for here more is told; see `Watcher`."""
        self._silence.held.append(np.errstate(all="ignore"))
        self._silence.held[-1].__enter__()

    def _left(self) -> None:
        """Give the warnings back; see `Watcher`."""
        self._silence.held.pop().__exit__(None, None, None)

    def _computed(self, name: str, data: Array, inputs: Sequence[object], node: Node | None) -> None:
        """Look at a result, and put a check around its vector-Jacobian product; see `Watcher`."""
        place = f"{name} of shape {data.shape}"
        line = _users_line()
        fault = _fault(data, [raw(x) for x in inputs])
        if fault:
            raise AnomalyError(f"{place} {fault}, at {line}")
        if node is not None and node.vjp is not None:
            shapes = [() if source is None else source.shape for source in node.inputs]
            node.vjp = _checked(node.vjp, shapes, f"{place}, computed at {line},")


class _Silence(threading.local):
    """What one thread has entered, and not left yet."""

    def __init__(self) -> None:
        self.held: list[np.errstate] = []


def _fault(result: Array, given: Sequence[Any]) -> str:
    """Return what is wrong with a result, given what it was computed from; nothing if it is in order."""
    if result.dtype.kind != "f" or np.isfinite(result).all():
        return ""
    arrays = [array for array in map(np.asarray, given) if array.dtype.kind == "f"]
    if np.isnan(result).any():
        had = any(np.isnan(array).any() for array in arrays)
        return "was given a NaN" if had else "made a NaN"
    return "" if any(np.isinf(array).any() for array in arrays) else "made an infinity"


def _checked(vjp: VJP, shapes: Sequence[Shape], place: str) -> VJP:
    """Return a vector-Jacobian product that first compares the arrays that it holds, then looks at its gradients."""
    held = list(_arrays(vjp))
    before = [_checksum(array) for array in held]

    @functools.wraps(vjp)
    def checked(g: Array) -> Sequence[Gradient]:
        for array, checksum in zip(held, before):
            if _checksum(array) != checksum:
                raise AnomalyError(
                    f"{place} needs an array of shape {array.shape} for its backward, and it was written to since: "
                    "write to a copy, or after the backward"
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
                raise AnomalyError(f"the backward of {place} {fault} in the gradient of input {i}")
        return gradients

    return checked


def _arrays(holder: Any, depth: int = 0) -> Iterator[NDArray[Any]]:
    """Yield the arrays that a function holds: in its closure, in tuples and lists there, in functions there."""
    if isinstance(holder, np.ndarray):
        yield holder
    elif depth > 4:  # deeper than any closure of ours
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
    """Return file and line of the innermost caller outside of this package, and of the one outside of Axone."""
    frame: FrameType | None = sys._getframe(2)
    places: list[str] = []
    for package in ("axone.autograd", "axone"):
        while frame is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(f"{package}."):
            frame = frame.f_back
        if frame is not None:
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
    return ", called from ".join(dict.fromkeys(places)) or "an unknown line"
