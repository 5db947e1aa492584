"""Sharded layers: products and attention of which each rank of a process group computes a part.

One sequence is sharded by heads; several sequences are sharded by sequence, and all ranks compute the products of all of
them. README.md in this folder has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeGuard

import numpy as np

from axone.autograd.extend import Array
from axone.llm.runtime.collectives import SharedAllGather
from axone.nn import (
    Dropout,
    Int8Linear,
    KVCache,
    Linear,
    Module,
    MultiHeadAttention,
    SwiGLU,
    Transformer,
    TransformerBlock,
)
from axone.nn.extend import (
    Arena,
    CachedForward,
    DecodeContext,
    Dense,
    Forward,
    Int8Weight,
    Weight,
    dense_product,
    int8_block_rows,
    swiglu_gate,
)

# OpenBLAS multiplies so many numbers without packing them first, on processors with AVX-512, if neither the products nor the
# results are more: 16 sequences with SmolLM2's weights in 51 ms; blocks of 16 columns for a transposed copy took 61.
_UNPACKED_PRODUCTS, _UNPACKED_RESULTS = 1_000_000, 1_200
_ROW_MULTIPLE = 8


_Multiply: TypeAlias = Callable[[Array, Array, Array], object]
"""Writes the products of a part of a weight and x to its last argument."""


class ShardedProducts:
    """Linear products that all ranks compute together: each some rows, then an all-gather.

    Several positions of one sequence get the bits that each gets alone: a row of a weight is read once, and multiplied by
    the vectors of all of them. For several sequences, blocks of a weight are multiplied.

    Parameters
    ----------
    all_gather : SharedAllGather
    batch : int
        The number of sequences.
    """

    def __init__(self, all_gather: SharedAllGather, batch: int) -> None:
        self._all_gather = all_gather
        self._batch = batch
        self._lines: dict[tuple[int, ...], Array] = {}
        self._numbers: dict[
            int, Array
        ] = {}  # by width, memory in which a block of an int8 weight is turned into float32

    def dense(self, weight: Weight, bias: Array | None) -> Forward:
        """Return the function that computes ``x W^T + b``."""
        return self.stacked([weight], bias)

    def stacked(self, weights: Sequence[Weight], bias: Array | None = None) -> Forward:
        """Return the function that computes the products with several weights, side by side, after one all-gather."""
        all_gather, batch = self._all_gather, self._batch
        size, width = sum(map(len, weights)), weights[0].shape[1]
        block = size if batch == 1 else _block_rows(batch, width)
        if isinstance(weights[0], Int8Weight):
            block = min(block, int8_block_rows(width))
        chunks = [(chunk, _parts(weights, rows, block)) for chunk, rows in all_gather.chunks(size, width)]

        def forward(x: Array) -> Array:
            multiply: _Multiply
            if x.ndim == 1:
                products = vector = all_gather.buffer(size)
                multiply = np.vecdot
            elif batch == 1:
                vector = all_gather.buffer(size * len(x)).reshape(size, -1)
                products, multiply, x = vector.T, _multiply_positions, self._in_lines(x)
            else:
                products = all_gather.buffer(size * len(x)).reshape(-1, size)
                vector, multiply, x = products.T, _multiply_sequences, self._in_lines(x)
            for chunk, parts in chunks:
                if all_gather.claim(chunk):
                    for part, rows in parts:
                        if isinstance(part, Int8Weight):
                            self._multiply_int8(multiply, part, x, vector[rows])
                        else:
                            multiply(part, x, vector[rows])
            y = all_gather.gather(products)
            if bias is not None:
                y += bias
            return y

        return forward

    def _multiply_int8(self, multiply: _Multiply, part: Int8Weight, x: Array, out: Array) -> None:
        """Write the products of a block of an int8 weight: of its numbers first, which are scaled afterwards."""
        width = part.shape[1]
        numbers = self._numbers.get(width)
        if numbers is None:
            shape = int8_block_rows(width), width
            numbers = self._numbers[width] = Arena([shape], np.float32).take(shape)
        products = np.empty(out.shape, out.dtype)
        multiply(part.expand(numbers), x, products)
        np.multiply(products, part.scales if out.ndim == 1 else part.scales[:, None], out)

    def _in_lines(self, x: Array) -> Array:
        """Return a copy of rows that begins at a cache line.

        Products of 8 positions take 13 % less time, of 16 positions 17 %, of 16 sequences 4 %.
        """
        lines = self._lines.get(x.shape)
        if lines is None:
            lines = self._lines[x.shape] = Arena([x.shape], x.dtype).take(x.shape)
        np.copyto(lines, x)
        return lines


def _multiply_positions(part: Array, x: Array, out: Array) -> None:
    np.vecdot(part[:, None], x, out)


def _multiply_sequences(part: Array, x: Array, out: Array) -> None:
    # Not straight to memory that ranks share: BLAS may write zeros first and add to them, and if two ranks claim a chunk at
    # the same time, each would add to the other's sums.
    out.T[...] = x.dot(part.T)


def _block_rows(batch: int, width: int) -> int:
    """Return the rows of a weight that are multiplied at once by the vectors of several sequences."""
    rows = min(_UNPACKED_PRODUCTS // (batch * width), _UNPACKED_RESULTS // batch)
    return max(rows // _ROW_MULTIPLE, 1) * _ROW_MULTIPLE


def _parts(weights: Sequence[Weight], rows: slice, block: int) -> list[tuple[Weight, slice]]:
    """Return the parts of the weights that make some rows of the result, of at most `block` rows each."""
    parts: list[tuple[Weight, slice]] = []
    first = 0
    for weight in weights:
        last = min(rows.stop, first + len(weight))
        for start in range(max(rows.start, first), last, block):
            stop = min(start + block, last)
            parts.append((weight[start - first : stop - first], slice(start, stop)))
        first += len(weight)
    return parts


class ShardedSwiGLU(SwiGLU):
    """SwiGLU whose gate and up projection need one all-gather.

    Parameters
    ----------
    layer : SwiGLU
        It shares its parameters.
    products : ShardedProducts
    """

    def __init__(self, layer: SwiGLU, products: ShardedProducts) -> None:
        vars(self).update(vars(layer))
        self._products = products

    @staticmethod
    def fits(layer: object) -> TypeGuard[SwiGLU]:
        """Return whether a layer computes as `SwiGLU` does, with linear layers that have no bias."""
        return (
            isinstance(layer, SwiGLU)
            and type(layer).inference is SwiGLU.inference
            and all(
                type(part).inference in {Linear.inference, Int8Linear.inference} and part.bias is None
                for part in (layer.gate_proj, layer.up_proj)
            )
        )

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays."""
        weights = [_weight(layer) for layer in (self.gate_proj, self.up_proj)]
        both, down, size = self._products.stacked(weights), self.down_proj.inference(dense), len(weights[0])
        gated = swiglu_gate(weights[0].dtype, half=0.5)

        def forward(x: Array) -> Array:
            y = both(x)
            return down(gated(y[..., :size], y[..., size:]))

        return forward


def _weight(layer: Linear | Int8Linear) -> Weight:
    return layer.weight if isinstance(layer, Int8Linear) else layer.weight.data


class ShardedAttention(MultiHeadAttention):
    """Multi-head attention of which each rank computes a shard of the heads.

    Parameters
    ----------
    layer : MultiHeadAttention
        It shares its parameters.
    all_gather : SharedAllGather
    """

    def __init__(self, layer: MultiHeadAttention, all_gather: SharedAllGather) -> None:
        vars(self).update(vars(layer))
        self._all_gather = all_gather

    def cached_inference(self, dense: Dense = dense_product) -> CachedForward:
        """Return this rank's forward on plain arrays: the cache holds the keys and values of its heads."""
        all_gather, size = self._all_gather, self.num_heads * self.head_dim
        heads = all_gather.shard(self.num_kv_heads)
        rows = self.qkv_rows(heads)
        qkv = _rows_of_product(self.qkv_proj, rows, dense, even=self.num_kv_heads % all_gather.world_size == 0)
        attend, out_proj = self.heads_inference(heads.stop - heads.start), self.out_proj.inference(dense)

        def forward(x: Array, cache: KVCache, context: DecodeContext) -> Array:
            packed = qkv(x)
            merged = all_gather.buffer(x.size // x.shape[-1] * size).reshape(*x.shape[:-1], size)
            merged[..., rows[0]] = attend(packed, cache, context)
            return out_proj(all_gather.gather(merged))

        return forward


class BatchShardedAttention(MultiHeadAttention):
    """Multi-head attention of which each rank computes a shard of the sequences.

    Parameters
    ----------
    layer : MultiHeadAttention
        It shares its parameters.
    all_gather : SharedAllGather
    contexts : ContextShard
    """

    def __init__(self, layer: MultiHeadAttention, all_gather: SharedAllGather, contexts: ContextShard) -> None:
        vars(self).update(vars(layer))
        self._all_gather = all_gather
        self._contexts = contexts

    def cached_inference(self, dense: Dense = dense_product) -> CachedForward:
        """Return this rank's forward on plain arrays: the cache holds its sequences."""
        all_gather, size, contexts = self._all_gather, self.num_heads * self.head_dim, self._contexts
        qkv, out_proj = self.qkv_proj.inference(dense), self.out_proj.inference(dense)
        attend, rows = self.heads_inference(self.num_kv_heads), contexts.rows

        def forward(x: Array, cache: KVCache, context: DecodeContext) -> Array:
            packed = qkv(x)[rows]
            merged = all_gather.buffer(len(x) * size).reshape(len(x), size)
            merged[rows] = attend(packed, cache, contexts.of(context))
            return out_proj(all_gather.gather(merged))

        return forward


class ContextShard:
    """The sequences of this rank in a decode context, which all layers of a step share.

    Parameters
    ----------
    rows : slice
    """

    def __init__(self, rows: slice) -> None:
        self.rows = rows
        self._last: tuple[DecodeContext, DecodeContext] | None = None

    def of(self, context: DecodeContext) -> DecodeContext:
        """Return the context of this rank's sequences."""
        if self._last is None or self._last[0] is not context:
            positions = context.positions if context.positions.ndim == 1 else context.positions[self.rows]
            positions.flags.writeable = False  # so that the layers share the tables of rotary embeddings
            mask = None if context.mask is None else context.mask[self.rows]
            self._last = context, DecodeContext(self.rows.stop - self.rows.start, positions, mask)
        return self._last[1]


def _rows_of_product(layer: Linear, rows: Sequence[slice], dense: Dense, *, even: bool) -> Forward:
    """Return the function that computes some rows of a layer's product, one run after the other.

    The rows are computed by this rank, except that all of the product is gathered of a layer that computes anything else,
    such as one with an adapter, and where ranks have uneven numbers of rows: they would wait for the slowest.
    """
    if not even or type(layer).inference is not Linear.inference:
        whole = layer.inference(dense)

        def select(x: Array) -> Array:
            y = whole(x)
            return np.concatenate([y[..., run] for run in rows], axis=-1)

        return select
    weights = [layer.weight.data[run] for run in rows]
    bias = None if layer.bias is None else np.concatenate([layer.bias.data[run] for run in rows])

    def forward(x: Array) -> Array:
        if x.ndim == 1:
            y = np.concatenate([np.vecdot(weight, x) for weight in weights])
        else:
            y = np.concatenate([np.vecdot(weight[:, None], x) for weight in weights]).T.copy()
        if bias is not None:
            y += bias
        return y

    return forward


def can_shard(transformer: Transformer) -> bool:
    """Return whether every layer states its arithmetic on arrays: only then do all ranks compute the same bits."""
    layers: list[object] = [transformer.norm]
    for block in transformer.blocks:
        attention = block.attention
        if (
            type(block).cached_inference is not TransformerBlock.cached_inference
            or not isinstance(attention, MultiHeadAttention)
            or type(attention).cached_inference is not MultiHeadAttention.cached_inference
        ):
            return False
        layers += block.attention_norm, block.mlp_norm, block.mlp, attention.qkv_proj, attention.out_proj
        layers += [norm for norm in (attention.q_norm, attention.k_norm) if norm is not None]
    return type(transformer).cached_inference is Transformer.cached_inference and all(map(_states_inference, layers))


def _states_inference(layer: object) -> bool:
    """Return whether a layer and all layers in it define `inference`; dropout is left out of it."""
    return isinstance(layer, Module) and all(
        type(part).inference is not Module.inference for part in layer.modules() if not isinstance(part, Dropout)
    )


def weight_shapes(transformer: Transformer) -> list[tuple[int, ...]]:
    """Return the shapes of all parameters and int8 weights."""
    int8 = [layer.weight.shape for layer in transformer.modules() if isinstance(layer, Int8Linear)]
    return [*int8, *(parameter.shape for parameter in transformer.parameters())]
