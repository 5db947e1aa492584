"""Safetensors files: named arrays, written durably, and read straight into arrays that the caller gives.

A reader and writer of our own, because the library opens files by their names alone (a FIFO blocks it, a link is
followed), writes wrong values for arrays that are not contiguous, syncs nothing, leaves mode 0600 and accepts a header
that names an array twice. Files are byte for byte those that the library writes.

A file is hostile until its header is checked: every offset must be inside the file, without gaps and overlaps.

References
----------
.. [1] Hugging Face, "Safetensors", https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import replacing_file
from axone.llm.storage.regular import open_regular, parse_json

State: TypeAlias = Mapping[str, NDArray[Any]]
Shape: TypeAlias = tuple[int, ...]

# The order in which the library writes arrays: the last dtype first, then by name.
_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_BITS = {name: 8 * np.dtype(dtype).itemsize for name, dtype in _DTYPES.items()} | {
    "BF16": 16,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "C64": 64,
}
_FLOATS = {"BF16", "F16", "F32", "F64"}
_METADATA = "__metadata__"
_LARGEST_HEADER = 1 << 24  # bytes: an array takes about 120, and as JSON in memory up to 10 times as much
_LEAST_CONTAINER = 16  # bytes of the header per list or object: of an array's own three, 30 at least
_CHUNK = 1 << 20  # numbers converted at once: their bytes stay in the caches


@dataclass(frozen=True)
class Entry:
    """Entry of the header: an array's dtype, shape and position.

    Attributes
    ----------
    dtype : str
        By the format's name, such as ``"F32"``.
    shape : tuple of int
    start : int
        The array's first byte in the file.
    """

    dtype: str
    shape: Shape
    start: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the array has floating-point numbers that NumPy can read."""
        return self.dtype in _FLOATS


@dataclass(frozen=True)
class StreamedArray:
    """An array that is written without being in memory, such as one of which other ranks have parts.

    Attributes
    ----------
    dtype : dtype
        Little-endian.
    shape : tuple of int
    chunks : callable
        Returns an iterator over the flattened array in contiguous chunks; each is valid until the next one.
    """

    dtype: np.dtype[Any]
    shape: Shape
    chunks: Callable[[], Generator[NDArray[Any]]]

    @property
    def nbytes(self) -> int:
        """The length of the array in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


WritableState: TypeAlias = Mapping[str, NDArray[Any] | StreamedArray]


def write_arrays(path: Path, arrays: WritableState) -> None:
    """Write named arrays as a safetensors file, durably; of any memory layout and byte order.

    Raises
    ------
    TypeError
        If the format has no name for an array's dtype.
    OSError
        If the file cannot be written; the old one stays.
    """
    order = list(_DTYPES)
    kinds = {name: _dtype_name(name, array) for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (-order.index(kinds[name]), name))
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}  # transformers looks for it
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": kinds[name], "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing_file(path, 8 + len(text) + end) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            array = arrays[name]
            if isinstance(array, StreamedArray):
                with contextlib.closing(array.chunks()) as chunks:  # also after an error: other ranks wait for the end
                    for chunk in chunks:
                        file.write(chunk.view(np.uint8).data)
                continue
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # a copy of this one, if any
            file.write(plain.reshape(-1).view(np.uint8).data)


class ArrayFile:
    """A safetensors file for reading. The header is checked when it is made.

    Arrays are read, not mapped: a mapped file that another process cuts short ends the process (SIGBUS).

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    entries : dict of str to Entry

    Raises
    ------
    CheckpointError
        If there is no such file, or its content is not this format: truncated, with gaps or overlaps, a name twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                self._status = os.fstat(file.fileno())
                self.entries = self._read_header(file)
        except OSError as error:
            raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error

    def read(self, name: str) -> NDArray[Any]:
        """Return an array; bfloat16 as float32, which has all its values.

        Raises
        ------
        CheckpointError
            If NumPy has no such dtype or shape, or the file has been cut short or replaced.
        """
        entry = self.entries[name]
        try:
            array = np.empty(entry.shape, "<f4" if entry.dtype == "BF16" else _DTYPES.get(entry.dtype, "?"))
        except (ValueError, OverflowError, MemoryError) as error:
            raise CheckpointError(self.path, f"{name} cannot be read ({error})") from error
        self.read_into(name, array)
        return array

    def read_into(self, name: str, out: NDArray[Any], *, first: int = 0) -> None:
        """Read an array into memory that the caller gives, converted in cache-sized chunks; safe from several threads.

        Parameters
        ----------
        name : str
        out : ndarray
            Of the array's shape, any dtype and any strides; or a part of the flattened array.
        first : int, default 0
            Element of the flattened array at which to begin.

        Raises
        ------
        CheckpointError
            If NumPy has no such dtype, or the file has been cut short or replaced.
        """
        entry = self.entries[name]
        if entry.dtype not in _DTYPES and entry.dtype != "BF16":
            raise CheckpointError(self.path, f"{name} cannot be read (NumPy has no {entry.dtype})")
        stored = np.dtype(_DTYPES.get(entry.dtype, "<u2"))
        rows = out if out.ndim > 1 else out.reshape(-1, 1)  # (N, ...)
        direct = out.dtype == stored and out.flags.c_contiguous and entry.dtype != "BF16"
        count = max(_CHUNK // max(math.prod(rows.shape[1:]), 1), 1)
        try:
            with open_regular(self.path) as file:
                if not os.path.samestat(os.fstat(file.fileno()), self._status):
                    raise CheckpointError(self.path, f"{name} cannot be read (the file has been replaced)")
                file.seek(entry.start + first * stored.itemsize)
                for row in range(0, len(rows), count):
                    part = rows[row : row + count]
                    chunk = part if direct else np.empty(part.shape, stored)
                    if not _fill(file, chunk):
                        raise CheckpointError(self.path, f"{name} cannot be read (the file has been cut short)")
                    if not direct:
                        part[...] = _widened(chunk) if entry.dtype == "BF16" else chunk
        except OSError as error:
            raise CheckpointError(self.path, f"{name} cannot be read ({error.strerror or error})") from error

    def read_all(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        return {name: self.read(name) for name in self.entries}

    def _read_header(self, file: FileIO) -> dict[str, Entry]:
        size, length = self._status.st_size, int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _LARGEST_HEADER):
            raise CheckpointError(self.path, f"is not a safetensors file (its header has {length:,} of {size:,} bytes)")
        try:
            header = file.read(length)
            _require_few_lists(header)
            content = parse_json(self.path, header)
            return _entries(content, start=8 + length, size=size - 8 - length)
        except (ValueError, CheckpointError) as error:
            reason = error.reason if isinstance(error, CheckpointError) else error
            raise CheckpointError(self.path, f"is not a safetensors file (its header {reason})") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a safetensors file.

    Raises
    ------
    CheckpointError
        As `ArrayFile`.
    """
    return ArrayFile(path).read_all()


def _require_few_lists(header: bytes) -> None:
    """Check that a header holds no more lists than arrays have: an empty one takes 3 bytes there, and 64 in memory.

    Raises
    ------
    ValueError
        If it holds more.
    """
    if _LEAST_CONTAINER * (header.count(b"[") + header.count(b"{") - 1) > len(header):
        raise ValueError("holds more lists than arrays have")


def _entries(content: dict[str, Any], start: int, size: int) -> dict[str, Entry]:
    """Return the entries of a header.

    Parameters
    ----------
    content : dict
        The header.
    start : int
        The first byte of the arrays in the file.
    size : int
        The number of their bytes.

    Raises
    ------
    ValueError
        If an entry is not one, or the arrays do not fill these bytes exactly.
    """
    metadata = content.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"has {_METADATA} that are not strings")
    entries: dict[str, Entry] = {}
    ranges = []
    for name, value in content.items():
        match value:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(first), int(last)], **rest} if (
                not rest and dtype in _BITS and all(type(length) is int and 0 <= length < 1 << 63 for length in shape)
            ):
                entries[name] = Entry(dtype, tuple(shape), start + first)
            case _:
                raise ValueError(f"describes {name!r:.60} as {value!r:.60}")
        if 8 * (last - first) != _BITS[dtype] * entries[name].size:
            raise ValueError(f"gives {last - first} bytes to {name!r:.60} of dtype {dtype} and shape {shape}")
        ranges.append((first, last))
    end = 0
    for first, last in sorted(ranges):
        if first != end:
            raise ValueError(f"leaves a gap or an overlap at byte {end:,}")
        end = last
    if end != size:
        raise ValueError(f"describes {end:,} bytes of arrays, and the file has {size:,}")
    return entries


def _fill(file: FileIO, array: NDArray[Any]) -> bool:
    """Read the next bytes of a file into a contiguous array, and return whether there were enough."""
    rest = array.reshape(-1).view(np.uint8).data
    while rest:
        count = file.readinto(rest)
        if not count:
            return False
        rest = rest[count:]
    return True


def _dtype_name(name: str, array: NDArray[Any] | StreamedArray) -> str:
    try:
        return _NAMES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(
            f"{name} has dtype {array.dtype}, and safetensors files hold real numbers of at most 64 bits and booleans"
        ) from None


def _widened(upper: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return bfloat16 numbers as float32: they are its upper halves."""
    return (upper.astype(np.uint32) << 16).view(np.float32)
