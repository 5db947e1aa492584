"""Quantized tensors of GGUF files: block formats of ggml, dequantized to float32 and, for Q8_0, quantized.

A row of weights is cut into blocks of 32 or 256. Each block holds small integers and one or two scales, so that a weight
is ``d q``, ``d q + m`` or ``d q - m``. Dequantized values equal those of the `gguf` package bit for bit, because every
product and sum is rounded to float32 in the same order.

References
----------
.. [1] ggml, "ggml-quants.c" and "ggml-common.h" (the block layouts), https://github.com/ggml-org/ggml
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array

_CHUNK = 1 << 16  # weights per pass: 256 KB of float32 stay in the second-level cache
_SUPER = 256  # weights per block of the K formats

Blocks = NDArray[np.void]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class TensorType:
    """A tensor type of ggml.

    Attributes
    ----------
    name : str
        ggml's name, such as ``"Q4_K"``.
    number : int
        The number that stands for it in a file.
    weights_per_block : int
    block : dtype
        The layout of a block.
    dequantize : callable
        Writes blocks (N,) as weights (N, weights_per_block).
    """

    name: str
    number: int
    weights_per_block: int
    block: np.dtype[Any]
    dequantize: Callable[[Any, Array], None]

    def row_bytes(self, width: int) -> int:
        """Return the size of a row of `width` weights, a multiple of `weights_per_block`, in bytes."""
        return width // self.weights_per_block * self.block.itemsize


def dequantize(kind: TensorType, rows: Bytes, out: Array) -> None:
    """Write rows of a tensor as numbers, in cache-sized chunks.

    Parameters
    ----------
    kind : TensorType
    rows : ndarray of uint8, shape (N, bytes per row)
        Any strides along the first axis.
    out : ndarray, shape (N, C)
        Of float32, with contiguous rows, or of another dtype or layout that then costs one more copy per chunk.
    """
    count = max(_CHUNK // max(out.shape[1], 1), 1)
    direct = out.dtype == np.float32 and out.flags.c_contiguous
    for first in range(0, len(rows), count):
        chunk = np.ascontiguousarray(rows[first : first + count])
        blocks = chunk.reshape(-1).view(kind.block)
        target = out[first : first + count]
        values = target if direct else np.empty(target.shape, np.float32)
        kind.dequantize(blocks, values.reshape(len(blocks), kind.weights_per_block))
        if not direct:
            target[...] = values


def quantize_q8_0(rows: Array) -> Bytes:
    """Quantize rows to Q8_0: one scale per 32 weights, integers rounded half away from zero.

    Parameters
    ----------
    rows : ndarray of float32, shape (N, C), C a multiple of 32

    Returns
    -------
    ndarray of uint8, shape (N, bytes per row)
    """
    weights = np.ascontiguousarray(rows, np.float32).reshape(-1, 32)
    scale: Array = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = weights * inverse
    magnitude = np.abs(scaled)
    whole = np.floor(magnitude)
    whole += np.floor(2 * (magnitude - whole))
    blocks = np.empty(len(weights), Q8_0.block)
    blocks["d"] = scale[:, 0]
    blocks["q"] = np.copysign(whole, scaled)
    return blocks.view(np.uint8).reshape(len(rows), -1)


def _plain(blocks: Any, out: Array) -> None:
    out[...] = blocks[:, None]


def _bf16(blocks: Any, out: Array) -> None:
    np.left_shift(blocks[:, None], 16, out=out.view(np.uint32), dtype=np.uint32)


def _nibbles(packed: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Write the low halves of the bytes, (..., n), then the high halves: (..., 2 n)."""
    half = packed.shape[-1]
    out[..., :half] = packed & 15
    out[..., half:] = packed >> 4


def _scale(blocks: Any, field: str = "d") -> Array:
    scale: Array = blocks[field].astype(np.float32)[:, None]
    return scale


def _q4_0(blocks: Any, out: Array) -> None:
    _nibbles(blocks["q"], out)
    out -= 8
    out *= _scale(blocks)


def _q4_1(blocks: Any, out: Array) -> None:
    _nibbles(blocks["q"], out)
    out *= _scale(blocks)
    out += _scale(blocks, "m")


def _fifth_bits(blocks: Any, out: Array) -> None:
    """Write 5-bit integers: nibbles, and one more bit each from a 32-bit word."""
    _nibbles(blocks["q"], out)
    bits = np.unpackbits(blocks["h"], axis=-1, bitorder="little")  # (N, 32)
    bits <<= 4
    out += bits


def _q5_0(blocks: Any, out: Array) -> None:
    _fifth_bits(blocks, out)
    out -= 16
    out *= _scale(blocks)


def _q5_1(blocks: Any, out: Array) -> None:
    _fifth_bits(blocks, out)
    out *= _scale(blocks)
    out += _scale(blocks, "m")


def _q8_0(blocks: Any, out: Array) -> None:
    out[...] = blocks["q"]
    out *= _scale(blocks)


def _six_bit_scales(blocks: Any) -> tuple[Array, Array]:
    """Return scales and minima of the eight groups of 32 weights: twelve bytes hold sixteen 6-bit numbers.

    Bytes 0 to 3 hold the low six bits of scales 0 to 3, bytes 4 to 7 those of minima 0 to 3; their upper two bits are
    the upper bits of scales and minima 4 to 7, whose lower four bits are the halves of bytes 8 to 11.
    """
    first, second, third = blocks["s"][:, :4], blocks["s"][:, 4:8], blocks["s"][:, 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 2 & 48], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 2 & 48], axis=1)
    return _scale(blocks) * scales.astype(np.float32), _scale(blocks, "m") * minima.astype(np.float32)  # (N, 8)


def _q4_k(blocks: Any, out: Array) -> None:
    scales, minima = _six_bit_scales(blocks)
    groups = out.reshape(-1, 8, 32)
    _nibbles(blocks["q"].reshape(-1, 4, 32), groups.reshape(-1, 4, 64))
    groups *= scales[..., None]
    groups -= minima[..., None]


def _q5_k(blocks: Any, out: Array) -> None:
    scales, minima = _six_bit_scales(blocks)
    groups = out.reshape(-1, 8, 32)
    _nibbles(blocks["q"].reshape(-1, 4, 32), groups.reshape(-1, 4, 64))
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    groups += (blocks["h"][:, None] >> shifts & 1) << 4
    groups *= scales[..., None]
    groups -= minima[..., None]


def _q6_k(blocks: Any, out: Array) -> None:
    low = np.empty((len(blocks), 8, 32), np.uint8)
    _nibbles(blocks["q"].reshape(-1, 2, 64), low.reshape(-1, 2, 128))
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    low |= (blocks["h"].reshape(-1, 2, 1, 32) >> shifts & 3).reshape(-1, 8, 32) << 4
    groups = out.reshape(-1, 16, 16)
    groups[...] = low.reshape(-1, 16, 16)
    groups -= 32
    groups *= (_scale(blocks) * blocks["s"].astype(np.float32))[..., None]


def _fields(**fields: tuple[str, int] | str) -> np.dtype[Any]:
    return np.dtype([(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items()])


F32 = TensorType("F32", 0, 1, np.dtype("<f4"), _plain)
F16 = TensorType("F16", 1, 1, np.dtype("<f2"), _plain)
BF16 = TensorType("BF16", 30, 1, np.dtype("<u2"), _bf16)
Q8_0 = TensorType("Q8_0", 8, 32, _fields(d="<f2", q=("i1", 32)), _q8_0)

TYPES = {
    kind.number: kind
    for kind in (
        F32,
        F16,
        BF16,
        TensorType("Q4_0", 2, 32, _fields(d="<f2", q=("u1", 16)), _q4_0),
        TensorType("Q4_1", 3, 32, _fields(d="<f2", m="<f2", q=("u1", 16)), _q4_1),
        TensorType("Q5_0", 6, 32, _fields(d="<f2", h=("u1", 4), q=("u1", 16)), _q5_0),
        TensorType("Q5_1", 7, 32, _fields(d="<f2", m="<f2", h=("u1", 4), q=("u1", 16)), _q5_1),
        Q8_0,
        TensorType("Q4_K", 12, _SUPER, _fields(d="<f2", m="<f2", s=("u1", 12), q=("u1", 128)), _q4_k),
        TensorType("Q5_K", 13, _SUPER, _fields(d="<f2", m="<f2", s=("u1", 12), h=("u1", 32), q=("u1", 128)), _q5_k),
        TensorType("Q6_K", 14, _SUPER, _fields(q=("u1", 128), h=("u1", 64), s=("i1", 16), d="<f2"), _q6_k),
    )
}
"""The types that are read, by the number that stands for them in a file."""

UNREAD = {
    10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Names of types that are refused."""
