"""The same Transformer with fewer operations: what its layers do one after the other is multiplied into the weights.

A small model's weights lie in the caches, and a token costs as many calls of NumPy as the layers have operations. With
copies of the weights, written once when a reader is made, the same function needs half of them:

- **Centring.** Layer normalization takes away the mean over the channels. If all that is ever added to the stream has
  none, the stream has none: with ``M = I - 1 1^T / C``, embeddings become ``M e`` and the last product of each branch
  ``M W``. What is left is division by a length, ``x / sqrt(|x|^2 + C eps)``.
- **Gains and shifts.** ``W (g * sqrt(C) x + s) + b = (W diag(g) sqrt(C)) x + (W s + b)``.
- **Attention.** ``1 / sqrt(D)`` goes into the rows that make the queries, or into the gain that they have.
- **GELU.** With ``z = a h`` and ``a^3 = sqrt(2 / pi) 0.044715``, the tanh approximation ``h / 2 (1 + tanh(sqrt(2 / pi)
  (h + 0.044715 h^3)))`` is ``z (1 + tanh(z (z^2 + b))) / 2a`` with ``b = sqrt(2 / pi) / a``: a goes into the product
  before, ``1 / 2a`` into the one after.
- **SwiGLU.** ``silu(h) = z (1 + tanh z)`` with ``z = h / 2``.

Matrices are stored by columns: a vector or a few rows are multiplied from the left, which is a tenth to a third quicker.

Only what is known here is folded: a model with any other layer, or with norms of two kinds, is left as it is.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from axone.autograd import Tensor, tanh
from axone.autograd.extend import Array
from axone.llm.generation.known import Norm, is_known, parts
from axone.nn import (
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
    RMSNorm,
    SwiGLU,
    Transformer,
    TransformerBlock,
)
from axone.nn.extend import Arena, Layer, Positions

_L = TypeVar("_L", Embedding, Linear, RMSNorm)

_LINEAR = math.sqrt(2 / math.pi)  # GELU's constants
_SCALE = (_LINEAR * 0.044715) ** (1 / 3)  # a
_LARGE_PAGES = 1 << 23  # bytes: NumPy asks for large pages from 4 MiB on
_ROWS = 16


class Folded(NamedTuple):
    """A model that gives the same logits."""

    transformer: Transformer
    embedding: Array  # (V, C)
    head: Array  # (V, C)
    head_bias: Array | None  # (V,)


class UnitNorm(Module):
    """Division by the length: ``x / sqrt(|x|^2 + eps)``.

    Parameters
    ----------
    eps : float
    dtype : dtype
        Of x.
    """

    def __init__(self, eps: float, dtype: np.dtype[Any]) -> None:
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return vectors of length 1."""
        return x / ((x * x).sum(axis=-1, keepdims=True) + self.eps) ** 0.5


class FoldedAttention(MultiHeadAttention):
    """Attention whose queries come divided by ``sqrt(D)``.

    Parameters
    ----------
    layer : MultiHeadAttention
        Whose shape it has.
    qkv_proj, out_proj : Linear
    q_norm, k_norm : RMSNorm or None
    """

    def __init__(
        self,
        layer: MultiHeadAttention,
        qkv_proj: Linear,
        out_proj: Linear,
        q_norm: RMSNorm | None,
        k_norm: RMSNorm | None,
    ) -> None:
        vars(self).update(vars(layer))
        self.qkv_proj, self.out_proj, self.q_norm, self.k_norm = qkv_proj, out_proj, q_norm, k_norm

    def _packed(self, x: Tensor, first: int, positions: Positions | None) -> Tensor:
        """Return queries as attention takes them that divides them itself."""
        undo = np.ones(self.qkv_proj.weight.shape[0])
        undo[: self.num_heads * self.head_dim] = math.sqrt(self.head_dim)
        return super()._packed(x, first, positions) * undo


class FoldedGELU(Module):
    """``down(z (1 + tanh(z (z^2 + offset))))`` of ``z = up(x)``.

    Parameters
    ----------
    up_proj, down_proj : Linear
    """

    offset = _LINEAR / _SCALE

    def __init__(self, up_proj: Linear, down_proj: Linear) -> None:
        self.up_proj, self.down_proj = up_proj, down_proj

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        z = self.up_proj(x)
        return self.down_proj(z * (tanh(z * (z * z + self.offset)) + 1.0))


class FoldedSwiGLU(Module):
    """``down(z (1 + tanh z) * up(x))`` of ``z = gate(x)``.

    Parameters
    ----------
    gate_proj, up_proj, down_proj : Linear
    """

    def __init__(self, gate_proj: Linear, up_proj: Linear, down_proj: Linear) -> None:
        self.gate_proj, self.up_proj, self.down_proj = gate_proj, up_proj, down_proj

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        z = self.gate_proj(x)
        return self.down_proj(z * (tanh(z) + 1.0) * self.up_proj(x))


class _Recipe(NamedTuple):
    """A product, and what stands before and after it."""

    weight: Array  # (N, K)
    bias: Array | None = None  # (N,)
    gain: Array | None = None  # (K,), multiplies what comes in
    shift: Array | None = None  # (K,), is added to it then
    scale: Array | float = 1.0  # (N,), multiplies what comes out
    centred: bool = False  # whether the mean of what comes out is taken away

    def equals(self, other: _Recipe) -> bool:
        """Tell whether they come to the same weights."""
        return self.weight.dtype == other.weight.dtype and all(map(_equal, self, other))


def _equal(a: Array | float | None, b: Array | float | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


_Result: TypeAlias = tuple[Array, Array | None]  # (N, K) and (N,)


class Folds:
    """What was folded last, for a model that is read again: to compare weights takes a fraction of the time of folding."""

    def __init__(self) -> None:
        self.made: list[tuple[_Recipe, _Result]] = []


class _Room:
    """One array for all weights: it comes in large pages, where many small ones would cost a page fault each 4 KiB.

    Parameters
    ----------
    transformer : Transformer
    head : ndarray, shape (V, C)
    last : list
        What was made before, in the same order.
    """

    def __init__(self, transformer: Transformer, head: Array, last: list[tuple[_Recipe, _Result]]) -> None:
        self.made: list[tuple[_Recipe, _Result]] = []
        self._last, self._model = last, (transformer, head)
        self._arena: Arena | None = None  # made when the first weight is folded anew

    def product(self, recipe: _Recipe) -> _Result:
        """Return the next product, the one from before if it is the same."""
        at = len(self.made)
        if at < len(self._last) and recipe.equals(self._last[at][0]):
            self.made.append(self._last[at])
        else:
            result = _rewritten(recipe, self._take(*recipe.weight.shape[::-1]))
            kept = self._take(*recipe.weight.shape)
            kept[...] = recipe.weight
            others = (copy.copy(part) for part in recipe[1:])
            self.made.append((_Recipe(kept, *others), result))  # type: ignore[arg-type]  # the fields in their order
        return self.made[-1][1]

    def _take(self, rows: int, columns: int) -> Array:
        """Return the next array of the arena."""
        if self._arena is None:
            transformer, head = self._model
            shapes = [head.shape, *(parameter.shape for parameter in transformer.parameters())]
            self._arena = Arena([*shapes, *shapes], head.dtype, allocate=_in_large_pages)  # the weights and their folds
        return self._arena.take((rows, columns))


def _in_large_pages(size: int, dtype: np.dtype[Any]) -> Array:
    return np.empty(max(size, _LARGE_PAGES // dtype.itemsize), dtype)


def folded(transformer: Transformer, embedding: Array, head: Array, folds: Folds | None = None) -> Folded:
    """Return an equal model with fewer operations; as it is, if it has a layer that is not known.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. It is left alone, and what is written to it later is not seen.
    embedding, head : ndarray, shape (V, C)
    folds : Folds, optional
        What is used again, and kept for the next time.
    """
    norm, position, blocks = transformer.norm, transformer.position, transformer.blocks
    kinds = {type(norm), *(type(each) for block in blocks for each in (block.attention_norm, block.mlp_norm))}
    if not is_known(transformer) or not isinstance(norm, Norm) or len(kinds) > 1:
        return Folded(transformer, embedding, head, None)
    centred = isinstance(norm, LayerNorm)
    room = _Room(transformer, head, [] if folds is None else folds.made)
    twins = [_block(block, room, centred=centred) for block in blocks]
    added = _without_mean if centred else np.copy  # a copy in any case: what is written later is not seen
    if position is not None:
        position = _with(position, added(position.weight.data))
    weight, bias = room.product(_Recipe(head, None, *_gain(norm)))
    if folds is not None:
        folds.made = room.made
    return Folded(Transformer(twins, norm=_unit(norm), position=position), added(embedding), weight, bias)


def _block(block: TransformerBlock, room: _Room, *, centred: bool) -> TransformerBlock:
    attention_norm, attention, mlp_norm, mlp = parts(block)
    return TransformerBlock(
        _attention(attention, attention_norm, room, centred=centred),
        _mlp(mlp, mlp_norm, room, centred=centred),
        attention_norm=_unit(attention_norm),
        mlp_norm=_unit(mlp_norm),
    )


def _attention(layer: MultiHeadAttention, norm: Norm, room: _Room, *, centred: bool) -> FoldedAttention:
    queries, shrink = layer.num_heads * layer.head_dim, 1 / math.sqrt(layer.head_dim)
    scale = np.ones(layer.qkv_proj.weight.shape[0], layer.qkv_proj.weight.dtype)
    q_norm, k_norm = layer.q_norm, layer.k_norm
    if q_norm is None or k_norm is None:
        scale[:queries] = shrink
    else:
        q_norm, k_norm = _with(q_norm, q_norm.weight.data * shrink), _with(k_norm, k_norm.weight.data.copy())
    qkv_proj = _linear(layer.qkv_proj, room, norm=norm, scale=scale)
    return FoldedAttention(layer, qkv_proj, _linear(layer.out_proj, room, centred=centred), q_norm, k_norm)


def _mlp(layer: FeedForward | SwiGLU, norm: Norm, room: _Room, *, centred: bool) -> Layer:
    if isinstance(layer, SwiGLU):
        gate_proj, up_proj = (
            _linear(layer.gate_proj, room, norm=norm, scale=0.5),
            _linear(layer.up_proj, room, norm=norm),
        )
        return FoldedSwiGLU(gate_proj, up_proj, _linear(layer.down_proj, room, centred=centred))
    gelu = layer.activation == "gelu"
    up_proj = _linear(layer.up_proj, room, norm=norm, scale=_SCALE if gelu else 1.0)
    down_proj = _linear(layer.down_proj, room, share=0.5 / _SCALE if gelu else None, centred=centred)
    if gelu:
        return FoldedGELU(up_proj, down_proj)
    twin = copy.copy(layer)
    twin.up_proj, twin.down_proj = up_proj, down_proj
    return twin


def _without_mean(rows: Array) -> Array:
    centred: Array = rows - rows.mean(axis=1, keepdims=True)
    return centred


def _unit(norm: Norm) -> UnitNorm:
    return UnitNorm(norm.weight.size * norm.eps, norm.weight.dtype)


def _gain(norm: Norm) -> tuple[Array, Array | None]:
    """Return the gain of a norm that divides by the length alone, and its shift."""
    shift = norm.bias if isinstance(norm, LayerNorm) else None
    return norm.weight.data * math.sqrt(norm.weight.size), None if shift is None else shift.data


def _linear(
    layer: Linear,
    room: _Room,
    *,
    norm: Norm | None = None,
    scale: Array | float = 1.0,
    share: float | None = None,
    centred: bool = False,
) -> Linear:
    """Fold what stands before and after a layer into it: a norm, or a share of what comes in."""
    weight = layer.weight.data
    gain, shift = (None, None) if norm is None else _gain(norm)
    if share is not None:
        gain = np.full(weight.shape[1], share, weight.dtype)
    bias = None if layer.bias is None else layer.bias.data
    weight, bias = room.product(_Recipe(weight, bias, gain, shift, scale, centred))
    twin = _with(layer, weight)
    twin.bias = None if bias is None else Parameter(bias)
    return twin


def _rewritten(recipe: _Recipe, columns: Array) -> _Result:
    """Write a product's weight by columns, (K, N), and return it as (N, K), and its bias."""
    weight, bias, gain, shift, scale, centred = recipe
    for first in range(0, len(weight), _ROWS):  # whole cache lines: half the time of a transposition at once
        columns[:, first : first + _ROWS] = weight[first : first + _ROWS].T
    if shift is not None:
        more = shift.dot(columns)
        bias = more if bias is None else bias + more
    if gain is not None:
        columns *= gain[:, None]
    if centred:
        columns -= columns.mean(axis=1, keepdims=True)
        bias = None if bias is None else bias - bias.mean()
    columns *= scale
    return columns.T, None if bias is None else bias * scale


def _with(layer: _L, weight: Array) -> _L:
    """Return a copy of a layer with another weight."""
    twin = copy.copy(layer)
    twin.weight = Parameter(weight)
    return twin
