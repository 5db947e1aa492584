"""Tensor parallelism: forked processes decode a few positions together, each with a shard of every weight.

Memory bounds the time of a position of a large model. `np.vecdot`, one dot product per row, reads it nearly twice as fast
as BLAS's matrix-vector product, but on one core; and Python threads would wait for each other's interpreter lock at each
of four all-gathers per layer (five with SwiGLU). Forked processes have a lock each, and share the weights without a copy.

Each rank computes its rows of every weight, then steals unclaimed chunks of other ranks; of attention it computes its
shard of the heads, and keeps their keys and values. Every number comes from the same dot product whichever rank computes
it, so the logits have the same bits for any number of ranks. Each rank computes norms and activations for itself.

Several positions, the last token and the guesses of a draft, read the weights once: `np.vecdot` multiplies a row of a
weight, once it is in the cache, by the vectors of all positions. Again every number comes from the same dot product, so
the logits have the same bits as if the positions were decoded one after the other.

Of several sequences, one position each is decoded at once. Each rank attends for its shard of the sequences.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
   https://arxiv.org/abs/1909.08053
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from axone.autograd.extend import Array
from axone.llm.generation.padding import padded_context
from axone.llm.generation.sharding import (
    BatchShardedAttention,
    ContextShard,
    ShardedAttention,
    ShardedProducts,
    ShardedSwiGLU,
    weight_shapes,
)
from axone.llm.runtime.collectives import SharedAllGather, collective
from axone.llm.runtime.processes import ProcessGroup, shared_zeros
from axone.llm.runtime.settings import CpuAffinity, blas_threads
from axone.nn import KVCache, MultiHeadAttention, Transformer, TransformerBlock
from axone.nn.extend import NgramForward, Weight, few_positions, single_position

_Decode: TypeAlias = Callable[[list[int], int, list[int]], Array]

_SPIN = 1e-3  # seconds between two tokens: choosing one takes less
_ONE_BLAS_THREAD_PRODUCTS = 1 << 18  # multiplications: OpenBLAS computes smaller products in one thread
MAX_POSITIONS = 16  # that are decoded at once


class TensorParallelDecoder:
    """Decodes a few positions of one sequence, or one of several, at a time in a group of forked processes.

    Parameters
    ----------
    transformer : Transformer
        One that `can_shard` accepts.
    embedding, head : ndarray or Int8Weight, shape (V, C)
    caches : sequence of KVCache
        They are moved into shared memory.
    world_size : int
        The most ranks: there is at most one for each key and value head of one sequence, or for each of several sequences.
    count : int, default 1
        The caches get room for so many more positions.
    ngrams : NgramForward, optional
        N-gram embeddings to add to those of the tokens; the last cache is theirs. Every rank looks them up, and writes
        the same ids into the cache.

    Attributes
    ----------
    group : ProcessGroup
        The other ranks are forked when the first position is decoded.
    """

    def __init__(
        self,
        transformer: Transformer,
        embedding: Weight,
        head: Weight,
        caches: Sequence[KVCache],
        world_size: int,
        count: int = 1,
        *,
        ngrams: NgramForward | None = None,
    ) -> None:
        for cache in caches:
            cache.move(shared_zeros, cache.length + count)
        self._caches, self._versions = caches, [cache.version for cache in caches]
        self._capacity = caches[0].capacity
        self._model = transformer, embedding, head
        self._ngrams = ngrams
        self._decode: _Decode | None = None  # this rank's shard
        self._built = 0  # the number of sequences for which it was built
        layers, self._batch = list(_attention_layers(transformer)), caches[0].batch
        parts = [self._batch] if self._batch > 1 else [layer.num_kv_heads for layer in layers]
        self.group = ProcessGroup(min(world_size, *parts))
        cores = sorted(os.sched_getaffinity(0))
        self._cores = cores if len(cores) == self.group.world_size > 1 else None  # one for each rank, or none is pinned
        self._affinity = CpuAffinity(self._cores and self._cores[:1])
        # A fork ends BLAS's threads. To set their number starts them again, and for 0.1 s they wait awake for work on the
        # cores of the other ranks. For one sequence, whose generator may be left unfinished, it is set per token, and not
        # unless attention's products are large enough for several threads; for a batch once, before the fork.
        widest = max(layer.num_heads // layer.num_kv_heads * layer.head_dim for layer in layers)
        needs_limit = self._batch == 1 and widest * self._capacity > _ONE_BLAS_THREAD_PRODUCTS
        self._blas_threads = 1 if needs_limit else None
        self._held = contextlib.ExitStack()
        longest = max(length for shape in weight_shapes(transformer) for length in shape)
        most = max(MAX_POSITIONS, self._batch) * max(2 * longest, *head.shape)  # twice: gate and up projection together
        self._all_gather = SharedAllGather(self.group, most, head.dtype)

    def holds(self, caches: Sequence[KVCache], count: int) -> bool:
        """Return whether these are the decoder's caches, all ranks still share them, and `count` more positions fit.

        Sequences may have ended, as long as there is one for each rank, and more than one.
        """
        batch = caches[0].batch
        return (
            caches is self._caches
            and (batch == self._batch or max(2, self.group.world_size) <= batch < self._batch)
            and caches[0].length + count <= self._capacity
            and self._versions == [cache.version for cache in caches]
        )

    def decode(self, tokens: list[int], position: int, starts: Sequence[int] = ()) -> Array:
        """Return the logits after each of up to `MAX_POSITIONS` tokens, or after a token of each sequence.

        Parameters
        ----------
        tokens : list of int
        position : int
            The column of the first one.
        starts : sequence of int
            The columns where the sequences begin, if there is padding before them.

        Returns
        -------
        ndarray, shape (T, V) or (B, V)

        Raises
        ------
        OSError
            If another rank has ended, or could not be forked.
        """
        if self._batch > 1 and self._decode is None:
            self._held.enter_context(blas_threads(1))
        with self._affinity, blas_threads(self._blas_threads):
            return self.decode_shard(tokens, position, list(starts))

    def close(self) -> None:
        """End the other ranks, and restore BLAS's threads, and the CPU affinity if an interrupt has kept `decode` from it."""
        self._affinity.restore()
        self.group.close()
        self._held.close()

    @collective
    def decode_shard(self, tokens: list[int], position: int, starts: list[int]) -> Array:
        """Compute this rank's shard of a few positions: all ranks return the same logits."""
        batch = 1 if self._batch == 1 else len(tokens)
        if self._decode is None or self._built != batch:  # the rank is known only now
            self._decode, self._built = self._build(batch), batch
            if self.group.rank and self._cores:
                os.sched_setaffinity(0, {self._cores[self.group.rank]})
        logits = self._decode(tokens, position, starts)
        if self.group.rank:
            self.group.spin_wait(_SPIN)
        return logits

    def _build(self, batch: int) -> _Decode:
        """Return this rank's function from tokens, the position of the first, and starts to logits."""
        transformer, embedding, head = self._model
        all_gather = self._all_gather
        layers = list(_attention_layers(transformer))
        attentions: list[MultiHeadAttention]
        products, caches = ShardedProducts(all_gather, batch), self._caches[: len(layers)]
        ngrams, ids = self._ngrams, [cache.view(rows=slice(batch)) for cache in self._caches[len(layers) :]]
        if batch == 1:
            attentions = [ShardedAttention(layer, all_gather) for layer in layers]
            heads = [all_gather.shard(layer.num_kv_heads) for layer in layers]
            shards = [cache.view(heads=own) for cache, own in zip(caches, heads, strict=True)]
        else:
            contexts = ContextShard(all_gather.shard(batch))
            attentions = [BatchShardedAttention(layer, all_gather, contexts) for layer in layers]
            shards = [cache.view(rows=contexts.rows) for cache in caches]
        sharded = _sharded(transformer, attentions, products)
        forward, logits = sharded.cached_inference(products.dense), products.dense(head, None)

        def decode(tokens: list[int], position: int, starts: list[int]) -> Array:
            for cache in (*shards, *ids):
                cache.length = position
            if batch > 1:
                context = padded_context(batch, 1, position, np.asarray(starts) if starts else None)
            elif len(tokens) > 1:
                context = few_positions(position, len(tokens))
            else:
                context = single_position(position)
            x = embedding.take(tokens if len(tokens) > 1 else tokens[0], axis=0)
            if ngrams is not None:
                vectors = ngrams(np.asarray(tokens).reshape(batch, -1), ids[0], context)
                x += vectors if x.ndim == 2 else vectors[0]
            y = logits(forward(x, shards, context))
            return y if y.ndim == 2 else y[None]

        return decode


def _sharded(
    transformer: Transformer, attentions: Sequence[MultiHeadAttention], products: ShardedProducts
) -> Transformer:
    """Return the same Transformer with sharded layers."""
    blocks = []
    for block, attention in zip(transformer.blocks, attentions, strict=True):
        mlp = ShardedSwiGLU(block.mlp, products) if ShardedSwiGLU.fits(block.mlp) else block.mlp
        blocks.append(TransformerBlock(attention, mlp, attention_norm=block.attention_norm, mlp_norm=block.mlp_norm))
    return Transformer(blocks, norm=transformer.norm, position=transformer.position)


def _attention_layers(transformer: Transformer) -> Iterator[MultiHeadAttention]:
    return (block.attention for block in transformer.blocks if isinstance(block.attention, MultiHeadAttention))
