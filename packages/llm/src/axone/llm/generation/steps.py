"""What the layers of a model compute, as functions of plain arrays: no tape, and no more calls of NumPy than needed.

The layers of `axone.nn` define them, and tests hold these to those. They take rows, of one position or many, or a single
vector, which NumPy takes quicker than a matrix of one row. A layer that is not known here is called as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad, relu
from axone.autograd.extend import Array
from axone.llm.generation.cache import RowCache
from axone.llm.generation.folding import FoldedAttention, FoldedGELU, FoldedSwiGLU, UnitNorm
from axone.nn import FeedForward, KVCache, LayerNorm, Linear, MultiHeadAttention, RMSNorm, RotaryEmbedding, SwiGLU
from axone.nn.extend import Attention, Layer, Mask, attend
from axone.nn.functional import relu2, silu

Ids: TypeAlias = NDArray[np.integer[Any]]

_FEW = 64  # rows
_SAFE = 60.0  # scores up to here can be exponentiated as they are: neither they nor their sum leaves float32

Step: TypeAlias = Callable[[Array], Array]
"""What a layer makes of N rows, (N, C) to (N, C), or of a single one, (C,) to (C,): a new array."""


class Place(NamedTuple):
    """What attention has to know of the N = B T rows."""

    batch: int
    positions: Ids  # (T,) or (B, T), counted from the beginning of each sequence
    mask: Mask | None  # (B, S), which of all columns belong to each sequence
    ends: bool = False  # whether only the last position of each sequence is still needed


def product(weight: Array, bias: Array | None = None) -> Step:
    """``x W^T + b``.

    BLAS copies the second of two matrices into blocks before it multiplies, unless it is stored as it is multiplied. A
    few rows are copied sooner than a weight.
    """
    transposed = weight.T
    copied = not transposed.flags.c_contiguous

    def step(x: Array) -> Array:
        few = copied and x.ndim == 2 and len(x) <= _FEW
        y: Array = np.ascontiguousarray(weight.dot(x.T).T) if few else x.dot(transposed)
        if bias is not None:
            y += bias
        return y

    return step if copied or bias is not None else lambda x: x.dot(transposed)


def _linear(layer: Linear) -> Step:
    if type(layer) is not Linear:
        return _as_it_is(layer)
    return product(layer.weight.data, None if layer.bias is None else layer.bias.data)


def norm(layer: Layer) -> Step:
    """Layer normalization, or by the root mean square alone, or by the length."""
    if isinstance(layer, UnitNorm):
        return _unit_norm(layer)
    if type(layer) is not LayerNorm and type(layer) is not RMSNorm:
        return _as_it_is(layer)
    gamma, number = layer.weight.data, layer.weight.dtype.type
    beta = layer.bias.data if isinstance(layer, LayerNorm) and layer.bias is not None else None
    share, eps = number(1 / gamma.size), number(layer.eps)
    average = np.full_like(gamma, share) if type(layer) is LayerNorm else None

    def step(x: Array) -> Array:
        if average is not None:
            x = x - _column(x.dot(average))
        squares = x.dot(x) if x.ndim == 1 else np.vecdot(x, x)
        y: Array = x / _column(np.sqrt(squares * share + eps))
        y *= gamma
        if beta is not None:
            y += beta
        return y

    return step


def _unit_norm(layer: UnitNorm) -> Step:
    """Division by the length: a single number is quicker in Python, and as an array when it meets another one."""
    eps, factor = layer.eps, np.empty((), layer.dtype)

    def step(x: Array) -> Array:
        if x.ndim == 1:
            factor[()] = 1 / math.sqrt(x.dot(x) + eps)
            return x * factor
        squares = np.vecdot(x, x)
        squares += eps
        rows: Array = x / np.sqrt(squares)[..., None]
        return rows

    return step


def _column(of_rows: Array) -> Array:
    """Return one number for each row as a column, or that of a single vector, which NumPy takes quicker, as it is."""
    return of_rows[..., None] if of_rows.ndim else of_rows


def mlp(layer: Layer) -> Step:
    """Return what the feed-forward part of a block computes."""
    if (
        type(layer) is not FeedForward
        and type(layer) is not SwiGLU
        and not isinstance(layer, (FoldedGELU, FoldedSwiGLU))
    ):
        return _as_it_is(layer)
    inner, down = hidden(layer, _linear), _linear(layer.down_proj)
    return lambda x: down(inner(x))


def hidden(layer: FeedForward | SwiGLU | FoldedGELU | FoldedSwiGLU, linear: Callable[[Linear], Step]) -> Step:
    """What a feed-forward layer makes of rows before its last product; `linear` says how a `Linear` is computed."""
    up, dtype = linear(layer.up_proj), layer.up_proj.weight.dtype
    if isinstance(layer, (SwiGLU, FoldedSwiGLU)):
        gate, gated = linear(layer.gate_proj), _gated(dtype, 0.5 if isinstance(layer, SwiGLU) else None)
        return lambda x: gated(gate(x), up(x))
    if isinstance(layer, FoldedGELU):
        activation = _gelu(dtype, None, layer.offset, None)
    elif layer.activation == "gelu":
        linear_part = math.sqrt(2 / math.pi)
        activation = _gelu(dtype, linear_part * 0.044715, linear_part, 0.5)
    else:
        activation = _as_it_is({"silu": silu, "relu": relu, "relu2": relu2}[layer.activation])
    return lambda x: activation(up(x))


def _gelu(dtype: np.dtype[Any], cubic: float | None, linear: float, half: float | None) -> Step:
    """``half x (1 + tanh(x (cubic x^2 + linear)))``: GELU in its tanh approximation, for rows too short for a Tensor."""
    c, b, one, h = (None if number is None else np.asarray(number, dtype) for number in (cubic, linear, 1, half))

    def step(x: Array) -> Array:
        gate = np.square(x)
        if c is not None:
            gate *= c
        gate += b
        gate *= x
        np.tanh(gate, gate)
        gate += one
        gate *= x
        if h is not None:
            gate *= h
        return gate

    return step


def _gated(dtype: np.dtype[Any], half: float | None) -> Callable[[Array, Array], Array]:
    """SwiGLU, ``silu(x) y`` with ``silu(x) = z (1 + tanh z)`` and ``z = half x``."""
    one, h = (None if number is None else np.asarray(number, dtype) for number in (1, half))

    def step(z: Array, y: Array) -> Array:
        if h is not None:
            z *= h
        gate = np.tanh(z)
        gate += one
        gate *= z
        gate *= y
        return gate

    return step


Mixing: TypeAlias = Callable[[Array, KVCache, Place], Array]


def attention(layer: Attention) -> Mixing:
    """Return what the attention of a block computes."""
    if type(layer) is not MultiHeadAttention and type(layer) is not FoldedAttention:
        raise TypeError(f"a model is read by its MultiHeadAttention, and this one has {type(layer).__name__}")
    pack, mix, out_proj = _linear(layer.qkv_proj), mixing(layer, layer.num_kv_heads), _linear(layer.out_proj)
    return lambda x, cache, place: out_proj(mix(pack(x), cache, place))


def mixing(layer: MultiHeadAttention, kv_heads: int) -> Mixing:
    """What some heads make of their queries, keys and values, (N, (H + 2K) D) to (N, H D), with a cache for K heads."""
    K, D, G = kv_heads, layer.head_dim, layer.num_heads // layer.num_kv_heads
    H = K * G
    q_norm = None if layer.q_norm is None else norm(layer.q_norm)
    k_norm = None if layer.k_norm is None else norm(layer.k_norm)
    rotary, folded = layer.rotary, isinstance(layer, FoldedAttention)
    dtype = layer.qkv_proj.weight.dtype
    scale, undo = (np.asarray(number, dtype) for number in (D**-0.5, D**0.5))
    side_by_side = _side_by_side(K, G, D, dtype)

    def step(packed: Array, cache: KVCache, place: Place) -> Array:
        if packed.ndim == 1 and place.mask is None:
            return of_one(packed, cache, place)
        B, T = place.batch, place.positions.shape[-1]
        heads = packed.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)
        prepare(heads[:, :H], heads[:, H : H + K], heads[:, : H + K], place)
        keys, values = cache.append(heads[:, H : H + K], heads[:, H + K :])  # (B, K, S, D)
        if T == 1 or place.ends:
            q = heads[:, :H, -1].reshape(B, K, G, D)
            out = from_one(q if folded else q * scale, keys, values, place.mask)
            return out.reshape(B, H * D) if packed.ndim == 2 else out.reshape(H * D)
        if folded:
            heads[:, :H] *= undo  # what `attend` does again
        mask = None if place.mask is None else place.mask[:, None, None]
        q = heads[:, :H].reshape(B, K, G, T, D)
        out = attend(q, keys[:, :, None], values[:, :, None], mask=mask, causal=True)
        return out.reshape(B * T, H * D)

    def of_one(packed: Array, cache: KVCache, place: Place) -> Array:
        """One position of one sequence: NumPy takes each axis less 0.1 us quicker."""
        if q_norm is not None or rotary is not None:
            heads = packed.reshape(H + 2 * K, D)
            prepare(heads[:H], heads[H : H + K], heads[: H + K], place)
        q, k, v = packed[: H * D], packed[H * D : -K * D], packed[-K * D :]
        if not folded:
            q *= scale
        q = q.reshape(K, G, D)
        if isinstance(cache, RowCache) and cache.lies_in_rows:
            return side_by_side(q, *cache.append_row(k, v)).reshape(H * D)
        keys, values = cache.append(k.reshape(1, K, 1, D), v.reshape(1, K, 1, D))  # (1, K, S, D)
        return from_one(q, keys[0], values[0], None).reshape(H * D)

    def prepare(q: Array, k: Array, both: Array, place: Place) -> None:
        """Normalize and rotate queries and keys, in place."""
        if q_norm is not None and k_norm is not None:
            q[...], k[...] = q_norm(q), k_norm(k)
        if rotary is not None:
            _rotate(both, rotary, place.positions)

    return step


def from_one(q: Array, keys: Array, values: Array, mask: Mask | None) -> Array:
    """Attend from a single position of each sequence.

    Parameters
    ----------
    q : ndarray, shape (..., K, G, D)
        Scaled.
    keys, values : ndarray, shape (..., K, S, D)
    mask : ndarray of bool, shape (B, S), optional

    Returns
    -------
    ndarray, shape (..., K, G, D)
    """
    p = np.matmul(q, keys.swapaxes(-1, -2))  # (..., K, G, S)
    if mask is not None:
        np.copyto(p, -np.inf, where=~mask[:, None, None])
    _exponentiate(p)
    out: Array = np.matmul(p, values)
    out /= np.add.reduce(p, -1, keepdims=True)
    return out


def _side_by_side(K: int, G: int, D: int, dtype: np.dtype[Any]) -> Callable[[Array, Array, Array], Array]:
    """Attend from one position with one product for all heads, where keys and values of all lie side by side.

    Each query stands in a row of its own, at its head's place among zeros. Most of what is multiplied is zero or not
    needed, but while it is little (see `RowCache.pays`), two products take half of the time of two for each head.
    """
    spread, mixed = np.zeros((K * G, K * D), dtype), np.empty((K * G, K * D + RowCache.ONES), dtype)
    q_places = np.einsum("kgkd->kgd", spread.reshape(K, G, K, D))  # a view
    out_places = np.einsum("kgkd->kgd", mixed[:, : K * D].reshape(K, G, K, D))
    totals = mixed[:, K * D].reshape(K, G, 1)

    def step(q: Array, keys: Array, values: Array) -> Array:
        q_places[...] = q
        p = spread.dot(keys.T)  # (H, S)
        _exponentiate(p)
        p.dot(values, mixed)
        out: Array = out_places / totals
        return out

    return step


def _exponentiate(p: Array) -> None:
    """Exponentiate scores in place, (..., S), each row shifted if any could leave the range."""
    if p.item(p.argmax()) > _SAFE or p.item(p.argmin()) < -_SAFE:  # to look takes a quarter of the time of the shift
        p -= np.maximum.reduce(p, -1, keepdims=True)
    np.exp(p, p)


def _rotate(heads: Array, rotary: RotaryEmbedding, positions: Ids) -> None:
    """Rotate queries and keys, (B, H + K, T, D), in place, by their positions."""
    cos, sin = rotary.tables(positions, heads.dtype)  # (T, D / 2) or (B, T, D / 2)
    if cos.ndim == 3:
        cos, sin = cos[:, None], sin[:, None]
    half = heads.shape[-1] // 2
    x, y = heads[..., :half], heads[..., half:]
    rotated = x * cos - y * sin
    y *= cos
    y += x * sin
    x[...] = rotated


def _as_it_is(layer: Layer) -> Step:
    """Call a layer that is not taken apart."""

    def step(x: Array) -> Array:
        with no_grad():
            return layer(Tensor(x)).data

    return step
