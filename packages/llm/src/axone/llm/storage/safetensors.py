"""Named arrays as safetensors files: the library of that name, durable, and safe with any array and any file.

The library writes wrong values for arrays that are not contiguous, leaves the file unsynced and readable by its owner
alone, and takes a header that names an array twice. All else that a hostile file can hold, it refuses itself.

References
----------
.. [1] Hugging Face, "Safetensors", https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import parse_json, replaced

State: TypeAlias = Mapping[str, NDArray[Any]]
Shape: TypeAlias = tuple[int, ...]

_BFLOAT16 = "BF16"  # NumPy has none: the upper half of a float32
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", _BFLOAT16: "<u2"}
_CHUNK = 1 << 20  # numbers converted at once: their bytes stay in the caches
_METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """What the header says of an array.

    Attributes
    ----------
    dtype : str
        The format's name of it, such as ``"F32"``.
    shape : tuple of int
    start : int
        Where it lies, in bytes from the file's beginning.
    """

    dtype: str
    shape: Shape
    start: int


def write_arrays(path: Path, arrays: State) -> None:
    """Write named arrays as a safetensors file, durably; of any memory layout and byte order.

    Raises
    ------
    TypeError
        If the format has no name for an array's dtype.
    OSError
        If it cannot be written; the old file stays.
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    with replaced(path, sum(array.nbytes for array in plain.values())) as beside:
        try:
            save_file(plain, beside, metadata={"format": "pt"})  # transformers looks for it
        except SafetensorError as error:
            raise _os_error(error) from error


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
            # Not mapped into memory: a file that shrinks meanwhile would end the process.
            self._arrays: Any = safe_open(path, framework="numpy", backend="pread")
        except OSError as error:
            raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error
        except SafetensorError as error:
            raise CheckpointError(path, f"is no safetensors file ({error})") from error
        self.entries = self._entries()

    def __enter__(self) -> Self:
        self._arrays.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._arrays.__exit__(*error)

    def read(self, name: str) -> NDArray[Any]:
        """Return an array; bfloat16 as float32, which holds all its values.

        Raises
        ------
        CheckpointError
            If it is of a kind that NumPy has none for, or the file has shrunk.
        """
        entry = self.entries[name]
        try:
            if entry.dtype == _BFLOAT16:
                upper = np.fromfile(self.path, "<u2", math.prod(entry.shape), offset=entry.start)
                return (upper.astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
            array: NDArray[Any] = self._arrays.get_tensor(name)
        except (SafetensorError, OSError, ValueError, OverflowError, AttributeError) as error:
            raise CheckpointError(self.path, f"{name} cannot be read ({error})") from error
        return array

    def read_into(self, name: str, out: NDArray[np.floating[Any]]) -> None:
        """Write an array of floating-point numbers into another, in cache-sized chunks; safe from several threads.

        Parameters
        ----------
        name : str
        out : ndarray
            Of the array's shape, any floating-point dtype and any strides.

        Raises
        ------
        CheckpointError
            If the array holds no floating-point numbers, or the file has shrunk.
        """
        entry = self.entries[name]
        if entry.dtype not in _FLOATS:
            raise CheckpointError(self.path, f"{name} must hold floating-point numbers and holds {entry.dtype}")
        dtype = np.dtype(_FLOATS[entry.dtype])
        rows = out if out.ndim > 1 else out[:, None]  # (N, ...)
        direct = out.dtype == dtype and out.flags.c_contiguous
        count = max(_CHUNK // max(math.prod(rows.shape[1:]), 1), 1)
        with self.path.open("rb") as file:
            file.seek(entry.start)
            for first in range(0, len(rows), count):
                part = rows[first : first + count]
                chunk = part if direct else np.empty(part.shape, dtype)
                if file.readinto(chunk.data.cast("B") if chunk.size else bytearray()) != chunk.nbytes:
                    raise CheckpointError(self.path, f"{name} cannot be read (the file has shrunk)")
                if entry.dtype == _BFLOAT16:
                    chunk = (chunk.astype(np.uint32) << 16).view(np.float32)
                if not direct:
                    part[...] = chunk

    def read_all(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        return {name: self.read(name) for name in self.entries}

    def _entries(self) -> dict[str, Entry]:
        """Read the header that the library has found to be sound once more: it takes the last of two equal names."""
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            content = parse_json(self.path, file.read(length))
        content.pop(_METADATA, None)
        return {
            name: Entry(value["dtype"], tuple(value["shape"]), 8 + length + value["data_offsets"][0])
            for name, value in content.items()
        }


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a safetensors file.

    Raises
    ------
    CheckpointError
        As `ArrayFile`.
    """
    with ArrayFile(path) as file:
        return file.read_all()


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as the format has it: little-endian, C-contiguous, of real numbers or booleans."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"safetensors files hold real numbers and booleans, and {name} has dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def _os_error(error: SafetensorError) -> OSError:
    """Return what the system said, which the library puts into its own message."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number), None, number)  # the last is for Windows, whose numbers are others
