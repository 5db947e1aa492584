"""Sharded layers: products and attention of which each rank of a process group computes a part.

One sequence is sharded by heads; several sequences are sharded by sequence, and all ranks compute the products of all of
them. README.md in this folder has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axone.autograd.extend import Array
from axone.llm.runtime.collectives import SharedAllGather
from axone.nn import Dropout, KVCache, Linear, Module, MultiHeadAttention, Transformer, TransformerBlock
from axone.nn.extend import CachedForward, DecodeContext, Dense, Forward, dense_product, single_position

# OpenBLAS multiplies up to a million numbers without packing them first, on processors with AVX-512: 16 rows with
# SmolLM2's weights in 37 ms instead of 46.
_UNPACKED_PRODUCTS = 1_000_000
_ROW_MULTIPLE = 16


def sharded_product(all_gather: SharedAllGather) -> Dense:
    """Return a `Dense` for one sequence: each rank computes some rows, then an all-gather.

    Several positions get the bits that each gets alone: a row of the weight is read once, and multiplied by all of them.
    """

    def dense(weight: Array, bias: Array | None) -> Forward:
        size = len(weight)
        chunks = [(chunk, weight[rows], rows) for chunk, rows in all_gather.chunks(*weight.shape)]

        def forward(x: Array) -> Array:
            if x.ndim == 1:
                products = all_gather.buffer(size)
                for chunk, part, rows in chunks:
                    if all_gather.claim(chunk):
                        np.vecdot(part, x, products[rows])
                y = all_gather.gather(products)
            else:
                products = all_gather.buffer(size * len(x)).reshape(size, len(x))
                for chunk, part, rows in chunks:
                    if all_gather.claim(chunk):
                        np.vecdot(part[:, None], x, products[rows])
                y = all_gather.gather(products.T)
            if bias is not None:
                y += bias
            return y

        return forward

    return dense


def sharded_batch_product(all_gather: SharedAllGather, batch: int) -> Dense:
    """Return a `Dense` for several sequences: each rank computes some rows in blocks, then an all-gather."""

    def dense(weight: Array, bias: Array | None) -> Forward:
        size, width = weight.shape
        block = max(_UNPACKED_PRODUCTS // (batch * width) // _ROW_MULTIPLE, 1) * _ROW_MULTIPLE
        chunks = []
        for chunk, rows in all_gather.chunks(size, width):
            starts = range(rows.start, rows.stop, block)
            blocks = [slice(start, min(start + block, rows.stop)) for start in starts]
            chunks.append((chunk, [(weight[each], each) for each in blocks]))

        def forward(x: Array) -> Array:
            columns = x.T.copy()  # (in, B)
            products = all_gather.buffer(size * batch).reshape(size, batch)
            for chunk, blocks in chunks:
                if all_gather.claim(chunk):
                    for part, rows in blocks:
                        np.dot(part, columns, products[rows])
            y = all_gather.gather(products.T)
            if bias is not None:
                y += bias
            return y

        return forward

    return dense


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
        qkv = _rows_of_product(self.qkv_proj, rows, dense)
        attend, out_proj = self.heads_inference(heads.stop - heads.start), self.out_proj.inference(dense)

        def forward(x: Array, cache: KVCache, context: DecodeContext) -> Array:
            packed = qkv(x)
            if x.ndim == 1:
                merged = all_gather.buffer(size)
                merged[rows[0]] = attend(packed, cache, context)
            else:  # one position after the other, so that each gets the bits that it gets alone
                merged = all_gather.buffer(len(x) * size).reshape(len(x), size)
                for one, own, position in zip(packed, merged, context.positions.tolist()):
                    own[rows[0]] = attend(one, cache, single_position(position))
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


def _rows_of_product(layer: Linear, rows: Sequence[slice], dense: Dense) -> Forward:
    """Return the function that computes some rows of a layer's product, one run after the other."""
    if type(layer).inference is not Linear.inference:  # such as one with an adapter: all of it is gathered
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
