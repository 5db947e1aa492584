"""Folding: a Transformer with fewer operations, whose factors and shifts are multiplied into its weights.

A small model's weights are in the processor's caches, and a token costs as many calls of NumPy as the layers have
operations. With copies of the weights, written once when a decoder is made, the same function needs half of them:

- **Centring.** Layer normalization subtracts the mean over the channels. If every vector that is added to the stream has
  mean zero, so has the stream: with ``M = I - 1 1^T / C``, embeddings become ``M e`` and the last product of each branch
  ``M W``. What is left is a division by a length, ``x / sqrt(|x|^2 + C eps)``.
- **Gains and shifts.** ``W (g * sqrt(C) x + s) + b = (W diag(g) sqrt(C)) x + (W s + b)``.
- **Attention.** Its scale goes into the rows that make the queries, or into the gain that they have.
- **GELU.** With ``z = a h`` and ``a^3 = sqrt(2 / pi) 0.044715``, the tanh approximation ``h / 2 (1 + tanh(sqrt(2 / pi)
  (h + 0.044715 h^3)))`` is ``z (1 + tanh(z (z^2 + b))) / 2a`` with ``b = sqrt(2 / pi) / a``: a goes into the product
  before, ``1 / 2a`` into the one after.
- **SwiGLU.** ``silu(h) = z (1 + tanh z)`` with ``z = h / 2``.

Matrices are stored by columns: a vector or a few rows are multiplied from the left, which takes 10 to 30 % less time.

A model with a layer that computes anything else than the layers of `axone.nn`, or with norms of two kinds, stays as it is.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple, TypeAlias, TypeGuard, TypeVar

import numpy as np

from axone.autograd import Tensor, tanh
from axone.autograd.extend import Array
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
from axone.nn.extend import Arena, Dense, Forward, Layer, dense_product, gelu_gate, swiglu_gate

Norm: TypeAlias = LayerNorm | RMSNorm
_L = TypeVar("_L", Embedding, Linear, RMSNorm)
_M = TypeVar("_M", bound=Module)

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)  # GELU's constants
_INNER_SCALE = (_SQRT_2_OVER_PI * 0.044715) ** (1 / 3)  # a
_LARGE_PAGES = 1 << 23  # bytes: NumPy asks for large pages from 4 MiB on
_ROWS = 16


class Folded(NamedTuple):
    """A model that gives the same logits with fewer operations."""

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

    def inference(self, dense: Dense = dense_product) -> Forward:  # noqa: ARG002 - no product
        """Return the layer's forward on plain arrays."""
        eps, factor = self.eps, np.empty((), self.dtype)

        def forward(x: Array) -> Array:
            if (
                x.ndim == 1
            ):  # Python computes one number faster, and NumPy multiplies by an array faster than by a number
                factor[()] = 1 / math.sqrt(x.dot(x) + eps)
                return x * factor
            squares = np.vecdot(x, x)
            squares += eps
            rows: Array = x / np.sqrt(squares)[..., None]
            return rows

        return forward


class FoldedGELU(Module):
    """``down(z (1 + tanh(z (z^2 + offset))))`` of ``z = up(x)``.

    Parameters
    ----------
    up_proj, down_proj : Linear
    """

    offset = _SQRT_2_OVER_PI / _INNER_SCALE

    def __init__(self, up_proj: Linear, down_proj: Linear) -> None:
        self.up_proj, self.down_proj = up_proj, down_proj

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        z = self.up_proj(x)
        return self.down_proj(z * (tanh(z * (z * z + self.offset)) + 1.0))

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays."""
        up, down = self.up_proj.inference(dense), self.down_proj.inference(dense)
        gate = gelu_gate(self.up_proj.weight.dtype, cubic=None, linear=self.offset, half=None)
        return lambda x: down(gate(up(x)))


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

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays."""
        gate, up, down = (layer.inference(dense) for layer in (self.gate_proj, self.up_proj, self.down_proj))
        gated = swiglu_gate(self.gate_proj.weight.dtype, half=None)
        return lambda x: down(gated(gate(x), up(x)))


class FoldedLinear(NamedTuple):
    """A product and the factors around it, which are folded into one weight."""

    weight: Array  # (N, K)
    bias: Array | None = None  # (N,)
    gain: Array | None = None  # (K,), multiplies the input
    shift: Array | None = None  # (K,), is added to it then
    scale: Array | float = 1.0  # (N,), multiplies the output
    centred: bool = False  # whether the mean of the output is subtracted

    def equals(self, other: FoldedLinear) -> bool:
        """Return whether both are folded into the same weight."""
        return self.weight.dtype == other.weight.dtype and all(map(_equal, self, other))


def _equal(a: Array | float | None, b: Array | float | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


_Result: TypeAlias = tuple[Array, Array | None]  # (N, K) and (N,)


class FoldCache:
    """The folded weights of a model's last decoder: comparing weights takes a fraction of the time of folding.

    The small model of README.md takes 0.3 ms to compare, and 1.4 to fold.
    """

    def __init__(self) -> None:
        self.products: list[tuple[FoldedLinear, _Result]] = []


class _Folder:
    """Folds products in one aligned arena: many small arrays would cost a page fault each 4 KiB.

    Parameters
    ----------
    transformer : Transformer
    head : ndarray, shape (V, C)
    last : list
        The products of the last time, in the same order.
    """

    def __init__(self, transformer: Transformer, head: Array, last: list[tuple[FoldedLinear, _Result]]) -> None:
        self.products: list[tuple[FoldedLinear, _Result]] = []
        self._last, self._model = last, (transformer, head)
        self._arena: Arena | None = None  # allocated when the first weight is folded

    def fold(self, product: FoldedLinear) -> _Result:
        """Return the next product's weight and bias: those of the last time, if nothing has changed."""
        at = len(self.products)
        if at < len(self._last) and product.equals(self._last[at][0]):
            self.products.append(self._last[at])
        else:
            result = _fold_by_columns(product, self._take(*product.weight.shape[::-1]))
            kept = self._take(*product.weight.shape)
            kept[...] = product.weight
            others = (copy.copy(part) for part in product[1:])
            self.products.append((FoldedLinear(kept, *others), result))  # type: ignore[arg-type]  # the fields in their order
        return self.products[-1][1]

    def _take(self, rows: int, columns: int) -> Array:
        """Return the next array of the arena."""
        if self._arena is None:
            transformer, head = self._model
            shapes = [head.shape, *(parameter.shape for parameter in transformer.parameters())]
            self._arena = Arena([*shapes, *shapes], head.dtype, allocate=_in_large_pages)  # the weights and their folds
        return self._arena.take((rows, columns))


def _in_large_pages(size: int, dtype: np.dtype[Any]) -> Array:
    return np.empty(max(size, _LARGE_PAGES // dtype.itemsize), dtype)


def fold(transformer: Transformer, embedding: Array, head: Array, cache: FoldCache | None = None) -> Folded:
    """Return an equal model with fewer operations, or the same one if it has a layer that cannot be folded.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. It is not changed, and the result does not see what is written to it later.
    embedding, head : ndarray, shape (V, C)
    cache : FoldCache, optional
        The folded weights of the last time; it takes those of this time.
    """
    norm, position = transformer.norm, transformer.position
    blocks = [parts for block in transformer.blocks if (parts := _foldable(block)) is not None]
    norms = [norm, *(each for parts in blocks for each in (parts.attention_norm, parts.mlp_norm))]
    if (
        type(transformer).cached_inference is not Transformer.cached_inference
        or len(blocks) < len(transformer.blocks)
        or not _is_norm(norm)
        or len({isinstance(each, LayerNorm) for each in norms}) > 1
    ):
        return Folded(transformer, embedding, head, None)
    centred = isinstance(norm, LayerNorm)
    folder = _Folder(transformer, head, [] if cache is None else cache.products)
    twins = [_block(parts, folder, centred=centred) for parts in blocks]
    added = _without_mean if centred else np.copy  # a copy in any case: later writes must not be seen
    if position is not None:
        position = _with_weight(position, added(position.weight.data))
    weight, bias = folder.fold(FoldedLinear(head, None, *_gain(norm)))
    if cache is not None:
        cache.products = folder.products
    return Folded(Transformer(twins, norm=_unit(norm), position=position), added(embedding), weight, bias)


class _Parts(NamedTuple):
    """The layers of a block, in the order in which they are computed."""

    attention_norm: Norm
    attention: MultiHeadAttention
    mlp_norm: Norm
    mlp: FeedForward | SwiGLU


def _foldable(block: TransformerBlock) -> _Parts | None:
    """Return the layers of a block, or None if one computes anything else than the layers of `axone.nn`."""
    first, attention, second, mlp = block.attention_norm, block.attention, block.mlp_norm, block.mlp
    if (
        type(block).cached_inference is TransformerBlock.cached_inference
        and isinstance(attention, MultiHeadAttention)
        and type(attention).cached_inference is MultiHeadAttention.cached_inference
        and _is_norm(first)
        and _is_norm(second)
        and (_computes_as(mlp, FeedForward) or _computes_as(mlp, SwiGLU))
        and all(_computes_as(part, Linear) for part in block.modules() if isinstance(part, Linear))
        and all(_computes_as(part, RMSNorm) for part in attention.modules() if isinstance(part, RMSNorm))
    ):
        return _Parts(first, attention, second, mlp)
    return None


def _is_norm(layer: object) -> TypeGuard[Norm]:
    return _computes_as(layer, LayerNorm) or _computes_as(layer, RMSNorm)


def _computes_as(layer: object, kind: type[_M]) -> TypeGuard[_M]:
    """Return whether a layer is of a class, or of a subclass that does not redefine its forward."""
    return isinstance(layer, kind) and type(layer).inference is kind.inference


def _block(parts: _Parts, folder: _Folder, *, centred: bool) -> TransformerBlock:
    return TransformerBlock(
        _attention(parts.attention, parts.attention_norm, folder, centred=centred),
        _mlp(parts.mlp, parts.mlp_norm, folder, centred=centred),
        attention_norm=_unit(parts.attention_norm),
        mlp_norm=_unit(parts.mlp_norm),
    )


def _attention(layer: MultiHeadAttention, norm: Norm, folder: _Folder, *, centred: bool) -> MultiHeadAttention:
    twin, queries = copy.copy(layer), layer.num_heads * layer.head_dim
    scale = np.ones(layer.qkv_proj.weight.shape[0], layer.qkv_proj.weight.dtype)
    twin.scale = 1.0
    if layer.q_norm is None or layer.k_norm is None:
        scale[:queries] = layer.scale
    else:
        twin.q_norm = _with_weight(layer.q_norm, layer.q_norm.weight.data * layer.scale)
        twin.k_norm = _with_weight(layer.k_norm, layer.k_norm.weight.data.copy())
    twin.qkv_proj = _linear(layer.qkv_proj, folder, norm=norm, scale=scale)
    twin.out_proj = _linear(layer.out_proj, folder, centred=centred)
    return twin


def _mlp(layer: FeedForward | SwiGLU, norm: Norm, folder: _Folder, *, centred: bool) -> Layer:
    if isinstance(layer, SwiGLU):
        gate_proj = _linear(layer.gate_proj, folder, norm=norm, scale=0.5)
        up_proj = _linear(layer.up_proj, folder, norm=norm)
        return FoldedSwiGLU(gate_proj, up_proj, _linear(layer.down_proj, folder, centred=centred))
    gelu = layer.activation == "gelu"
    up_proj = _linear(layer.up_proj, folder, norm=norm, scale=_INNER_SCALE if gelu else 1.0)
    down_proj = _linear(layer.down_proj, folder, factor=0.5 / _INNER_SCALE if gelu else None, centred=centred)
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
    """Return the gain of a norm after the division by the length, and its shift."""
    shift = norm.bias if isinstance(norm, LayerNorm) else None
    return norm.weight.data * math.sqrt(norm.weight.size), None if shift is None else shift.data


def _linear(
    layer: Linear,
    folder: _Folder,
    *,
    norm: Norm | None = None,
    scale: Array | float = 1.0,
    factor: float | None = None,
    centred: bool = False,
) -> Linear:
    """Fold a norm or a factor before a layer, and a scale and the centring after it, into the layer."""
    weight = layer.weight.data
    gain, shift = (None, None) if norm is None else _gain(norm)
    if factor is not None:
        gain = np.full(weight.shape[1], factor, weight.dtype)
    bias = None if layer.bias is None else layer.bias.data
    weight, bias = folder.fold(FoldedLinear(weight, bias, gain, shift, scale, centred))
    twin = _with_weight(layer, weight)
    twin.bias = None if bias is None else Parameter(bias)
    return twin


def _fold_by_columns(product: FoldedLinear, columns: Array) -> _Result:
    """Write a folded weight by columns, (K, N), and return it as (N, K), and the folded bias."""
    weight, bias, gain, shift, scale, centred = product
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


def _with_weight(layer: _L, weight: Array) -> _L:
    """Return a copy of a layer with another weight."""
    twin = copy.copy(layer)
    twin.weight = Parameter(weight)
    return twin
