"""Tensor parallelism: forked processes decode one position together, each with a shard of every weight.

Memory bounds the time of a position of a large model. `np.vecdot`, one dot product per row, reads it nearly twice as fast
as BLAS's matrix-vector product, but on one core; and Python threads would wait for each other's interpreter lock at each
of four all-gathers per layer (five with SwiGLU). Forked processes have a lock each, and share the weights without a copy.

Each rank computes its rows of every weight, then steals unclaimed chunks of other ranks; of attention it computes its
shard of the heads, and keeps their keys and values. Every number comes from the same dot product whichever rank computes
it, so the logits have the same bits for any number of ranks. Each rank computes norms and activations for itself.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
   https://arxiv.org/abs/1909.08053
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from axone.autograd.extend import Array
from axone.llm.runtime.collectives import SharedAllGather, collective
from axone.llm.runtime.processes import ProcessGroup, shared_zeros
from axone.llm.runtime.settings import CpuAffinity, blas_threads
from axone.nn import Dropout, KVCache, Linear, Module, MultiHeadAttention, Transformer, TransformerBlock
from axone.nn.extend import CachedForward, DecodeContext, Dense, Forward, NgramForward, dense_product, single_position

_SPIN = 1e-3  # seconds between two tokens: choosing one takes less
_ONE_BLAS_THREAD_PRODUCTS = 1 << 18  # multiplications: OpenBLAS computes smaller products in one thread


class TensorParallelDecoder:
    """Decodes one position of one sequence at a time in a group of forked processes.

    Parameters
    ----------
    transformer : Transformer
        One that `can_shard` accepts.
    embedding, head : ndarray, shape (V, C)
    caches : sequence of KVCache
        They are moved into shared memory.
    world_size : int
        The most ranks: there is at most one for each key and value head.
    ngrams : NgramForward, optional
        Vectors of n-grams to add to those of the embedding; the last cache is theirs. Every rank looks them up, and writes
        the same ids into the cache.

    Attributes
    ----------
    group : ProcessGroup
        The other ranks are forked when the first position is decoded.
    """

    def __init__(
        self,
        transformer: Transformer,
        embedding: Array,
        head: Array,
        caches: Sequence[KVCache],
        world_size: int,
        *,
        ngrams: NgramForward | None = None,
    ) -> None:
        for cache in caches:
            cache.reserve(cache.length + 1)
            cache.move(shared_zeros)
        self._caches, self._versions = caches, [cache.version for cache in caches]
        self._capacity = caches[0].capacity
        self._model = transformer, embedding, head
        self._ngrams = ngrams
        self._decode: Callable[[int, int], Array] | None = None  # this rank's shard
        layers = list(_attention_layers(transformer))
        self.group = ProcessGroup(min(world_size, *(layer.num_kv_heads for layer in layers)))
        cores = sorted(os.sched_getaffinity(0))
        self._cores = cores if len(cores) == self.group.world_size > 1 else None  # one for each rank, or none is pinned
        self._affinity = CpuAffinity(self._cores and self._cores[:1])
        # A fork ends BLAS's threads. To set their number starts them again, and for 0.1 s they wait awake for work on the
        # cores of the other ranks: it is not set unless attention's products are large enough for several threads.
        widest = max(layer.num_heads // layer.num_kv_heads * layer.head_dim for layer in layers)
        self._blas_threads = None if widest * self._capacity <= _ONE_BLAS_THREAD_PRODUCTS else 1
        longest = max(length for parameter in transformer.parameters() for length in parameter.shape)
        self._all_gather = SharedAllGather(self.group, max(longest, *head.shape), head.dtype)

    def holds(self, caches: Sequence[KVCache]) -> bool:
        """Return whether these are the decoder's caches, all ranks still share them, and a position more fits."""
        return (
            caches is self._caches
            and caches[0].length < self._capacity
            and self._versions == [cache.version for cache in caches]
        )

    def decode(self, token: int, position: int) -> Array:
        """Return the logits after a token, shape (V,).

        Parameters
        ----------
        token, position : int

        Raises
        ------
        OSError
            If another rank has ended, or could not be forked.
        """
        with self._affinity, blas_threads(self._blas_threads):
            return self.decode_shard(token, position)

    def close(self) -> None:
        """End the other ranks, and restore the CPU affinity if an interrupt has kept `decode` from it."""
        self._affinity.restore()
        self.group.close()

    @collective
    def decode_shard(self, token: int, position: int) -> Array:
        """Compute this rank's shard of a position: all ranks return the same logits."""
        if self._decode is None:  # the rank is known only now
            self._decode = self._build()
            if self.group.rank and self._cores:
                os.sched_setaffinity(0, {self._cores[self.group.rank]})
        logits = self._decode(token, position)
        if self.group.rank:
            self.group.spin_wait(_SPIN)
        return logits

    def _build(self) -> Callable[[int, int], Array]:
        """Return this rank's function from a token and its position to logits."""
        transformer, embedding, head = self._model
        blocks = [
            TransformerBlock(
                ShardedAttention(attention, self._all_gather),
                block.mlp,
                attention_norm=block.attention_norm,
                mlp_norm=block.mlp_norm,
            )
            for block, attention in zip(transformer.blocks, _attention_layers(transformer), strict=True)
        ]
        sharded = Transformer(blocks, norm=transformer.norm, position=transformer.position)
        dense = sharded_product(self._all_gather)
        forward, logits = sharded.cached_inference(dense), dense(head, None)
        layers = len(transformer.blocks)
        shards = [
            cache.view(heads=self._all_gather.shard(attention.num_kv_heads))
            for cache, attention in zip(self._caches[:layers], _attention_layers(transformer), strict=True)
        ]
        ngrams, ids = self._ngrams, [cache.view() for cache in self._caches[layers:]]

        def decode(token: int, position: int) -> Array:
            for cache in (*shards, *ids):
                cache.length = position
            x, context = embedding[token].copy(), single_position(position)
            if ngrams is not None:
                x += ngrams(np.asarray([[token]]), ids[0], context)[0]
            return logits(forward(x, shards, context))

        return decode


def sharded_product(all_gather: SharedAllGather) -> Dense:
    """Return a `Dense` whose products all ranks compute together: each some rows, then an all-gather."""

    def dense(weight: Array, bias: Array | None) -> Forward:
        size = len(weight)
        chunks = [(chunk, weight[rows], rows) for chunk, rows in all_gather.chunks(*weight.shape)]

        def forward(x: Array) -> Array:
            products = all_gather.buffer(size)
            for chunk, part, rows in chunks:
                if all_gather.claim(chunk):
                    np.vecdot(part, x, products[rows])
            y = all_gather.gather(products)
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
            attended = attend(qkv(x), cache, context)
            merged = all_gather.buffer(size)
            merged[rows[0]] = attended
            return out_proj(all_gather.gather(merged))

        return forward


def _rows_of_product(layer: Linear, rows: Sequence[slice], dense: Dense) -> Forward:
    """Return the function that computes some rows of a layer's product, one run after the other."""
    if type(layer).inference is not Linear.inference:  # such as one with an adapter: all of it is gathered
        whole = layer.inference(dense)

        def select(x: Array) -> Array:
            y = whole(x)
            return np.concatenate([y[run] for run in rows])

        return select
    weights = [layer.weight.data[run] for run in rows]
    bias = None if layer.bias is None else np.concatenate([layer.bias.data[run] for run in rows])

    def forward(x: Array) -> Array:
        y = np.concatenate([np.vecdot(weight, x) for weight in weights])
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


def _attention_layers(transformer: Transformer) -> Iterator[MultiHeadAttention]:
    return (block.attention for block in transformer.blocks if isinstance(block.attention, MultiHeadAttention))
