"""Named arrays as safetensors files, written and read array by array.

The format is eight bytes of length, a JSON header of that length, and the arrays one after the other. The library of
that name is not used here: it writes wrong values for arrays that are not C-contiguous, accepts a header that names an
array twice, leaves neither durability nor the file's mode to the caller, and holds a second copy of everything.

References
----------
.. [1] Hugging Face, "Safetensors", https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.files import parse_json, write_parts

State: TypeAlias = Mapping[str, NDArray[Any]]
Shape: TypeAlias = tuple[int, ...]

# In the order in which the library lays arrays out: wide items first, so that all of them are aligned.
_DTYPES = {
    name: np.dtype(code)
    for name, code in {
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
        "F32": "<f4",
        "U32": "<u4",
        "I32": "<i4",
        "F16": "<f2",
        "U16": "<u2",
        "I16": "<i2",
        "I8": "i1",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}
_BFLOAT16 = "BF16"  # NumPy has none: the upper half of a float32
_LARGEST_HEADER = 100_000_000  # bytes, the format's own limit
_METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """What the header says of an array.

    Attributes
    ----------
    dtype : str
        The format's name of it, such as ``"F32"``.
    shape : tuple of int
    start, stop : int
        Where it lies, in bytes from the first array's beginning.
    """

    dtype: str
    shape: Shape
    start: int
    stop: int


def write_arrays(path: Path, arrays: State) -> None:
    """Write named arrays as a safetensors file, durably; of any memory layout and byte order.

    Raises
    ------
    TypeError
        If the format has no name for an array's dtype.
    OSError
        If it cannot be written; the old file stays.
    """
    plain = {name: _little_endian(name, array) for name, array in arrays.items()}
    ordered = sorted(plain, key=lambda name: (_RANKS[plain[name].dtype], name))
    ends = list(itertools.accumulate((plain[name].nbytes for name in ordered), initial=0))
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}  # transformers looks for it
    for name, span in zip(ordered, itertools.pairwise(ends)):
        array = plain[name]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": list(span)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    parts = (np.ascontiguousarray(plain[name]).reshape(-1).view(np.uint8).data for name in ordered)
    write_parts(path, itertools.chain([head], parts), len(head) + ends[-1])


class ArrayFile:
    """A safetensors file that is open for reading, as a context manager. The header is checked when it is opened.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    entries : dict of str to Entry

    Raises
    ------
    CheckpointError
        If it is not there or not such a file: truncated, with holes or overlaps, a name twice, a header without end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
        self._first = 0  # where the arrays begin, in bytes
        try:
            self.entries = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> NDArray[Any]:
        """Return an array; bfloat16 as float32, which holds all its values."""
        entry = self.entries[name]
        stored = np.dtype("<u2") if entry.dtype == _BFLOAT16 else _DTYPES[entry.dtype]
        array = np.empty(entry.shape, stored)
        self._file.seek(self._first + entry.start)
        if self._file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise CheckpointError(self.path, f"ends within {name}")
        if entry.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array

    def read_all(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        return {name: self.read(name) for name in self.entries}

    def _read_header(self) -> dict[str, Entry]:
        size = self.path.stat().st_size
        length = int.from_bytes(self._file.read(8), "little")
        self._first = 8 + length
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            raise CheckpointError(self.path, f"is no safetensors file: a header of {length} bytes in a file of {size}")
        content = parse_json(self.path, self._file.read(length))
        metadata = content.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise CheckpointError(self.path, f"{_METADATA} must map names to strings")
        entries = {name: self._entry(name, value) for name, value in content.items()}
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
            if entry.start != end:
                raise CheckpointError(self.path, f"{name} must begin at byte {end}, and begins at {entry.start}")
            end = entry.stop
        if end != size - self._first:
            raise CheckpointError(self.path, f"must hold {end} bytes of arrays, and holds {size - self._first}")
        return entries

    def _entry(self, name: str, value: Any) -> Entry:
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            raise CheckpointError(self.path, f"{name} must have dtype, shape and data_offsets")
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or (dtype not in _DTYPES and dtype != _BFLOAT16):
            raise CheckpointError(self.path, f"{name} has dtype {dtype!r}, which is not read here")
        if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2 and len(shape) <= 32):
            raise CheckpointError(self.path, f"{name} must have lists of whole numbers for shape and data_offsets")
        item = 2 if dtype == _BFLOAT16 else _DTYPES[dtype].itemsize
        if offsets[1] - offsets[0] != math.prod(shape) * item:
            raise CheckpointError(
                self.path, f"{name} of {dtype} {tuple(shape)} must take {math.prod(shape) * item} bytes"
            )
        return Entry(dtype, tuple(shape), *offsets)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a safetensors file.

    Raises
    ------
    CheckpointError
        As `ArrayFile`.
    """
    with ArrayFile(path) as file:
        return file.read_all()


def _are_counts(value: Any) -> bool:
    """Tell whether a JSON value is a list of whole numbers that are not negative: true and 1.0 are none."""
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value)


def _little_endian(name: str, array: NDArray[Any]) -> NDArray[Any]:
    plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if plain.dtype not in _NAMES:
        raise TypeError(f"safetensors files hold numbers and booleans, and {name} has dtype {array.dtype}")
    return plain
