"""GGUF files, written: metadata, the table of tensors, then the tensors, quantized one at a time.

References
----------
.. [1] ggml, "GGUF" (the specification), https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array
from axone.llm.pretrained.gguf.quantization import F16, F32, Q8_0, Bytes, TensorType, quantize_q8_0
from axone.llm.pretrained.gguf.reader import ARRAY, MAGIC, SCALARS, STRING, VERSIONS, Value
from axone.llm.storage.atomic import TemporaryFile, replacing_file

WRITTEN = {"f32": F32, "f16": F16, "q8_0": Q8_0}
"""The tensor types that are written, by the name that a user gives."""

_ALIGNMENT = 32  # bytes, the format's default
_NUMBERS = {np.dtype(name): number for number, name in SCALARS.items()}


def write_gguf(path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, tuple[TensorType, Array]]) -> None:
    """Write a GGUF file durably: to a temporary file, synced and renamed.

    Parameters
    ----------
    path : Path
    metadata : mapping of str to value
        Python's whole numbers are written as uint32, its other numbers as float32, and lists of them as int32 and float32,
        which is what llama.cpp expects; arrays keep their dtype.
    tensors : mapping of str to (TensorType, ndarray)
        Of the types in `WRITTEN`. Arrays are converted one at a time.

    Raises
    ------
    TypeError
        If a list of the metadata holds anything but strings alone or numbers alone.
    OSError
        If the file cannot be written; the old one stays.
    """
    sizes = {name: kind.row_bytes(array.shape[-1]) * _rows(array) for name, (kind, array) in tensors.items()}
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += _aligned(size)
    header = [MAGIC, struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(metadata))]
    header += [_text(key) + _value(value) for key, value in metadata.items()]
    for name, (kind, array) in tensors.items():
        shape = array.shape[::-1]  # the format lists the axis that varies fastest first
        header += [_text(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind.number, offsets[name])]
    content = b"".join(header)
    content += b"\0" * (_aligned(len(content)) - len(content))
    with replacing_file(path, len(content) + end) as file:
        file.write(content)
        for kind, array in tensors.values():
            _write(file, kind, array)


def _write(file: TemporaryFile, kind: TensorType, array: Array) -> None:
    """Write a tensor in pieces of some megabytes, and the padding after it."""
    rows = array.reshape(_rows(array), -1)
    count, written = max((1 << 20) // max(rows.shape[1], 1), 1), 0
    for first in range(0, len(rows), count):
        written += file.write(_encoded(kind, rows[first : first + count]).tobytes())
    file.write(b"\0" * (_aligned(written) - written))


def _encoded(kind: TensorType, rows: Array) -> Bytes | NDArray[np.floating[Any]]:
    return quantize_q8_0(rows) if kind is Q8_0 else rows.astype(kind.block, copy=False)


def _rows(array: Array) -> int:
    return int(array.size) // int(array.shape[-1])


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Value) -> bytes:
    """Return a value of the metadata with its type before it."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, np.ndarray):
        return struct.pack("<IIQ", ARRAY, _NUMBERS[value.dtype], value.size) + value.tobytes()
    if isinstance(value, list):
        texts = [item for item in value if isinstance(item, str)]
        if len(texts) == len(value):
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, texts))
        numbers = [item for item in value if isinstance(item, (int, float))]
        if len(numbers) < len(value):
            raise TypeError("a list of the metadata must hold only strings or only numbers")
        return _value(np.array(numbers, np.int32 if all(isinstance(item, int) for item in numbers) else np.float32))
    dtype = np.dtype("?") if isinstance(value, bool) else np.dtype("<u4") if isinstance(value, int) else np.dtype("<f4")
    return struct.pack("<I", _NUMBERS[dtype]) + np.array(value, dtype).tobytes()
