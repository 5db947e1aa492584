"""GGUF files, read: metadata and the table of tensors, checked before anything is used; tensors row by row.

The file is hostile until checked: every length is compared with the bytes that are left before it is used, so nothing
larger than the file is ever allocated, and tensors must lie inside the file without overlap. Strings take more memory than
in the file, so their number has a limit, with which they take at most 150 MB more than in a file of any size.

References
----------
.. [1] ggml, "GGUF" (the specification), https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.gguf.quantization import TYPES, UNREAD, Bytes, TensorType, dequantize
from axone.llm.storage.regular import open_regular

Value: TypeAlias = "int | float | bool | str | list[Value] | NDArray[Any]"
"""A value of the metadata: arrays of numbers are NumPy's, those of strings or arrays are lists."""

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
"""NumPy's dtype of each numeric type of the metadata, by the number that stands for it in a file."""
STRING, ARRAY = 8, 9

_LEAST_ENTRY = 13  # bytes of the smallest entry of the metadata: a key's length, a type, a byte
_LEAST_TENSOR = 24  # bytes of the smallest entry of the table of tensors
_MOST_ENTRIES = 1 << 16  # of the metadata, and of the table of tensors: models have up to some thousand
_MOST_STRINGS = 1 << 21  # in all arrays: Python takes 64 bytes for each; Gemma 3 has 777,000
_NESTED = 32  # strings for which an array within an array counts
_LONGEST_NAME = 1 << 16
_DEEPEST = 4  # arrays within arrays
_MOST_DIMENSIONS = 4
_BUFFER = 1 << 22  # bytes read at once


@dataclass(frozen=True)
class TensorInfo:
    """An entry of the table of tensors.

    Attributes
    ----------
    kind : TensorType
    shape : tuple of int
        As NumPy has it: the last axis varies fastest.
    start : int
        The tensor's first byte in the file.
    """

    kind: TensorType
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """The size of a row, in bytes."""
        return self.kind.row_bytes(self.shape[-1])

    @property
    def nbytes(self) -> int:
        """The size of the tensor, in bytes."""
        return math.prod(self.shape[:-1]) * self.row_bytes


class GGUFFile:
    """A GGUF file, open for reading, as a context manager.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    metadata : mapping of str to value
    tensors : mapping of str to TensorInfo

    Raises
    ------
    CheckpointError
        If the path is not a regular file, or the content is not a GGUF file of version 2 or 3: truncated, with lengths
        beyond the file, unknown types, a name twice, tensors that overlap.
    """

    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._file = io.BufferedReader(open_regular(path), _BUFFER)
        except OSError as error:
            raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error
        try:
            cursor = _Cursor(path, self._file, os.fstat(self._file.fileno()).st_size)
            count, entries = cursor.header()
            self.metadata = cursor.metadata(entries)
            self.tensors = cursor.tensors(count, self._alignment())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, name: str, out: Array, order: NDArray[np.intp] | None = None) -> None:
        """Dequantize a tensor into an array.

        Parameters
        ----------
        name : str
            Of `tensors`.
        out : ndarray, shape (C,) or (N, C)
            As the tensor's.
        order : ndarray of int, shape (N,), optional
            Row i of `out` is row ``order[i]`` of the tensor; by default the rows keep their order.
        """
        info = self.tensors[name]
        target = out.reshape(-1, info.shape[-1])  # (N, C)
        if order is not None and out.ndim == 1:
            values = np.empty_like(out)
            self.read(name, values)
            out[...] = values[order]
            return
        if order is not None:
            dequantize(info.kind, self._rows(info, 0, len(target))[order], target)
            return
        count = max(_BUFFER // info.row_bytes, 1)
        for first in range(0, len(target), count):
            part = target[first : first + count]
            dequantize(info.kind, self._rows(info, first, len(part)), part)

    def _rows(self, info: TensorInfo, first: int, count: int) -> Bytes:
        """Return some rows of a tensor as bytes; safe to call from several threads."""
        raw = np.empty((count, info.row_bytes), np.uint8)
        with self._lock:
            self._file.seek(info.start + first * info.row_bytes)
            held = self._file.readinto(raw.data)
        if held != raw.nbytes:
            raise CheckpointError(self.path, "was cut short while it was read")
        return raw

    def _alignment(self) -> int:
        alignment = self.metadata.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment < 1 or alignment & alignment - 1:
            raise CheckpointError(self.path, f"{ALIGNMENT} ({alignment!r:.40}) must be a power of two")
        return alignment


class _Cursor:
    """A position in the file that only moves forward, and never beyond the end."""

    def __init__(self, path: Path, file: io.BufferedReader[io.FileIO], size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._at = 0
        self._strings_left = _MOST_STRINGS

    def header(self) -> tuple[int, int]:
        """Return the number of tensors and that of metadata entries."""
        if self._take(4) != MAGIC:
            raise self._fault('is not a GGUF file: its first four bytes are not "GGUF"')
        version = self._number("<u4")
        if version not in VERSIONS:
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
            why = "a big-endian file" if swapped in VERSIONS else f"version {version}"
            raise self._fault(f"is {why}; versions 2 and 3, little-endian, are read")
        tensors, entries = int(self._number("<u8")), int(self._number("<u8"))
        for count, least, what in ((tensors, _LEAST_TENSOR, "tensors"), (entries, _LEAST_ENTRY, "metadata entries")):
            if count * least > self._left():
                raise self._fault(f"declares {count} {what}, more than its {self._size} bytes can hold")
            if count > _MOST_ENTRIES:
                raise self._fault(f"declares {count} {what}, and {_MOST_ENTRIES} are the most that are read")
        return tensors, entries

    def metadata(self, count: int) -> dict[str, Value]:
        """Return the metadata."""
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self._name()
            if key in found:
                raise self._fault(f"holds the metadata key {key} twice")
            found[key] = self._value(int(self._number("<u4")), 0)
        return found

    def tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        """Return the table of tensors, checked to be inside the file and not to overlap."""
        declared: dict[str, tuple[TensorType, tuple[int, ...], int]] = {}
        for _ in range(count):
            name = self._name()
            if name in declared:
                raise self._fault(f"holds the tensor {name} twice")
            axes = int(self._number("<u4"))
            if not 1 <= axes <= _MOST_DIMENSIONS:
                raise self._fault(f"{name} has {axes} dimensions: 1 to {_MOST_DIMENSIONS} are read")
            shape = tuple(int(self._number("<u8")) for _ in range(axes))[::-1]
            declared[name] = self._type(name, int(self._number("<u4")), shape), shape, int(self._number("<u8"))
        first = -(-self._at // alignment) * alignment
        found, end, last = {}, first, "the table"
        for name, (kind, shape, offset) in sorted(declared.items(), key=lambda item: item[1][2]):
            info = TensorInfo(kind, shape, first + offset)
            if offset % alignment:
                raise self._fault(f"{name} begins at {offset}, which is not a multiple of the alignment ({alignment})")
            if info.start < end:
                raise self._fault(f"{name} overlaps {last}")
            end, last = info.start + info.nbytes, name
            if end > self._size:
                raise self._fault(f"is cut off: {name} ends at byte {end} of {self._size}")
            found[name] = info
        return {name: found[name] for name in declared}

    def _type(self, name: str, number: int, shape: tuple[int, ...]) -> TensorType:
        kind = TYPES.get(number)
        if kind is None:
            read = ", ".join(kind.name for kind in TYPES.values())
            raise self._fault(f"{name} is of type {UNREAD.get(number, number)}, which is not read: {read} are")
        if 0 in shape:
            raise self._fault(f"{name} has shape {shape}: no dimension may be zero")
        if shape[-1] % kind.weights_per_block:
            raise self._fault(
                f"{name} is of type {kind.name}, whose rows are multiples of {kind.weights_per_block}, and has "
                f"{shape[-1]} columns"
            )
        return kind

    def _value(self, kind: int, depth: int) -> Value:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array(depth)
        if kind not in SCALARS:
            raise self._fault(f"holds metadata of the unknown type {kind}")
        value: Value = self._number(SCALARS[kind])
        return value

    def _array(self, depth: int) -> Value:
        if depth == _DEEPEST:
            raise self._fault(f"nests arrays more than {_DEEPEST} deep")
        kind, count = int(self._number("<u4")), int(self._number("<u8"))
        if kind in SCALARS:
            dtype = np.dtype(SCALARS[kind])
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        least = 8 if kind == STRING else 12
        if count * least > self._left():
            raise self._fault(f"declares an array of {count} values, more than its {self._size} bytes can hold")
        self._strings_left -= count if kind == STRING else _NESTED * count
        if self._strings_left < 0:
            raise self._fault(f"holds more than {_MOST_STRINGS} strings, which are the most that are read")
        if kind == STRING:
            return self._strings(count)
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _strings(self, count: int) -> list[Value]:
        """Return many strings, as vocabularies are: 50,000 take a few hundredths of a second."""
        read, left = self._file.read, self._left()
        found: list[Value] = []
        for _ in range(count):
            left -= 8
            length = int.from_bytes(read(8), "little") if left >= 0 else 0
            left -= length
            if left < 0:
                raise self._cut_off()
            raw = read(length)
            try:
                found.append(raw.decode())
            except UnicodeDecodeError as error:
                raise self._not_text(raw) from error
        self._at = self._size - left
        return found

    def _name(self) -> str:
        length = int(self._number("<u8"))
        if length > _LONGEST_NAME:
            raise self._fault(f"holds a name of {length} bytes, and {_LONGEST_NAME} are the most")
        return self._text(self._take(length))

    def _string(self) -> str:
        return self._text(self._take(int(self._number("<u8"))))

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._not_text(raw) from error

    def _number(self, dtype: str) -> Any:
        kind = np.dtype(dtype)
        return np.frombuffer(self._take(kind.itemsize), kind).item()

    def _take(self, count: int) -> bytes:
        if count > self._left():
            raise self._cut_off()
        self._at += count
        taken = self._file.read(count)
        if len(taken) != count:
            raise self._cut_off()
        return taken

    def _left(self) -> int:
        return self._size - self._at

    def _not_text(self, raw: bytes) -> CheckpointError:
        return self._fault(f"holds text that is not UTF-8 ({raw[:20]!r})")

    def _cut_off(self) -> CheckpointError:
        return self._fault(f"is cut off or damaged: its header goes beyond its {self._size} bytes")

    def _fault(self, reason: str) -> CheckpointError:
        return CheckpointError(self._path, reason)
