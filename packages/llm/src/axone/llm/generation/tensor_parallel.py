"""One position of a model read by several forked processes at once, each of which reads a share of every weight.

A position of a large model is as quick as memory is read. `np.vecdot`, a dot product a row, reads it nearly twice as
fast as BLAS's product of a matrix and a vector, but on one core; and threads of Python would wait for each other's
interpreter lock at each of four meetings a layer. Forked processes have a lock each, and the weights without a copy.

Each process takes a run of rows of every weight, and when it is done, what others have not come to; of attention it
takes a run of heads, whose keys and values nobody else needs. Every number comes from the same dot product whoever
computes it, so the logits have the same bits for any number of processes. What is small is not shared out: each computes
it for itself.

How a layer computes is said in `steps`; how processes meet, in `meeting`; when there are any, in `joint`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from axone.autograd.extend import Array
from axone.llm.generation.cache import SequenceCache
from axone.llm.generation.known import parts
from axone.llm.generation.steps import Mixing, Place, Step, hidden, mixing, norm
from axone.llm.runtime.collectives import SharedAllGather, collective
from axone.llm.runtime.processes import ProcessGroup
from axone.nn import FeedForward, KVCache, Linear, MultiHeadAttention, SwiGLU, Transformer

_SOON = 1e-3  # seconds: to choose a token takes less
_ONE_THREAD = 1 << 18  # multiplications: OpenBLAS computes smaller products in one thread


class JointReading:
    """What all processes carry out, each its share, and what they have in common.

    Parameters
    ----------
    transformer : Transformer
        Whose layers are all known.
    embedding, head : ndarray, shape (V, C)
    caches : sequence of SequenceCache
        They are moved into shared memory.
    processes : int
        The most that take part: at most one for each head of keys and values.

    Attributes
    ----------
    group : ProcessGroup
        To be closed; the others are forked when the first position is read.
    """

    def __init__(
        self, transformer: Transformer, embedding: Array, head: Array, caches: Sequence[SequenceCache], processes: int
    ) -> None:
        for cache in caches:
            cache.share()
        self._caches = caches
        self._model = transformer, embedding, head
        self._read: Callable[[int, int], Array] | None = None
        layers = [parts(block) for block in transformer.blocks]
        self.group = ProcessGroup(min(processes, *(attention.num_kv_heads for _, attention, _, _ in layers)))
        most = max(a.num_heads // a.num_kv_heads * a.head_dim for _, a, _, _ in layers) * caches[0].max_length
        self._suits_blas = most <= _ONE_THREAD
        self._all_cores = sorted(os.sched_getaffinity(0))
        widest = max(max(a.out_proj.weight.shape[1], m.down_proj.weight.shape[1]) for _, a, _, m in layers)
        self._meeting = SharedAllGather(self.group, max(widest, *head.shape), head.dtype)

    @property
    def cores(self) -> set[int] | None:
        """Where this process is to read: on one core, if there is one for each; two would share one now and then."""
        return {self._all_cores[self.group.rank]} if len(self._all_cores) == self.group.world_size > 1 else None

    @property
    def blas_threads(self) -> int | None:
        """How many threads BLAS is to be told to use, if it takes more than one for the products of attention.

        A fork ends its threads, and to tell it anything starts them again: for a tenth of a second they then wait awake
        for work, on the cores where the other processes read.
        """
        return None if self._suits_blas else 1

    def holds(self, caches: Sequence[SequenceCache]) -> bool:
        """Tell whether these are the caches, and all processes still see them."""
        return caches is self._caches and all(cache.shared for cache in caches)

    @collective
    def read(self, token: int, position: int) -> Array:
        """Read a token, in all processes.

        Parameters
        ----------
        token, position : int

        Returns
        -------
        ndarray, shape (V,)
            The logits after it.

        Raises
        ------
        OSError
            If a process has ended, or could not be forked.
        """
        if self._read is None:  # this process's share, for it is known only now
            self._read = self._reading()
            if self.group.rank and self.cores:
                os.sched_setaffinity(0, self.cores)
        logits = self._read(token, position)
        if self.group.rank:
            self.group.spin_wait(_SOON)
        return logits

    def _reading(self) -> Callable[[int, int], Array]:
        """Return what reads a position with this process's shares."""
        transformer, embedding, head = self._model
        learned = None if transformer.position is None else transformer.position.weight.data
        blocks = []
        for block, cache in zip(transformer.blocks, self._caches, strict=True):
            first, attention, second, mlp = parts(block)
            own = _Heads(cache, self._meeting.shard(attention.num_kv_heads))
            blocks.append((norm(first), self._attention(attention), own, norm(second), self._mlp(mlp)))
        last_norm, logits = norm(transformer.norm), self._product(head, None)

        def read(token: int, position: int) -> Array:
            place = Place(1, np.asarray([position]), None)
            x: Array = embedding[token].copy()  # (C,)
            if learned is not None:
                x += learned[position]
            for attention_norm, attention, own, mlp_norm, mlp in blocks:
                own.length = position
                x += attention(attention_norm(x), own, place)
                x += mlp(mlp_norm(x))
            return logits(last_norm(x))

        return read

    def _attention(self, layer: MultiHeadAttention) -> Mixing:
        """Attend by the heads of this process, put together what all make, and so with the output."""
        H, K, D = layer.num_heads, layer.num_kv_heads, layer.head_dim
        meeting, kv, out_proj = self._meeting, self._meeting.shard(K), self._linear(layer.out_proj)
        queries = slice(kv.start * (H // K) * D, kv.stop * (H // K) * D)
        keys, values = (slice((first + kv.start) * D, (first + kv.stop) * D) for first in (H, H + K))
        pack, mix = _dots(layer.qkv_proj, queries, keys, values), mixing(layer, kv.stop - kv.start)

        def step(x: Array, cache: KVCache, place: Place) -> Array:
            heads = meeting.buffer(H * D)
            heads[queries] = mix(pack(x), cache, place)
            return out_proj(meeting.gather(heads))

        return step

    def _mlp(self, layer: FeedForward | SwiGLU) -> Step:
        inner, down = hidden(layer, self._linear), self._linear(layer.down_proj)
        return lambda x: down(inner(x))

    def _linear(self, layer: Linear) -> Step:
        return self._product(layer.weight.data, None if layer.bias is None else layer.bias.data)

    def _product(self, weight: Array, bias: Array | None) -> Step:
        """``x W^T + b``, put together from the rows of all."""
        meeting, size = self._meeting, len(weight)
        pieces = [(number, weight[rows], rows) for number, rows in meeting.chunks(*weight.shape)]

        def step(x: Array) -> Array:
            products = meeting.buffer(size)
            for number, part, rows in pieces:
                if meeting.claim(number):
                    np.vecdot(part, x, products[rows])
            y = meeting.gather(products)
            if bias is not None:
                y += bias
            return y

        return step


class _Heads(KVCache):
    """Some heads of a cache."""

    def __init__(self, whole: SequenceCache, heads: slice) -> None:
        self._keys, self._values = whole._keys[:, heads], whole._values[:, heads]


def _dots(layer: Linear, *runs: slice) -> Step:
    """Some runs of rows of ``x W^T + b``, one after the other."""
    weights = [layer.weight.data[run] for run in runs]
    biases = None if layer.bias is None else np.concatenate([layer.bias.data[run] for run in runs])

    def step(x: Array) -> Array:
        y = np.concatenate([np.vecdot(weight, x) for weight in weights])
        if biases is not None:
            y += biases
        return y

    return step
