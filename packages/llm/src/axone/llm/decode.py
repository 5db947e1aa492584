"""A model read without a tape: what its layers compute, on plain arrays, in as few calls and with as many threads as pay.

The layers of `axone.nn` define a model, and tests hold this to them. It is written a second time because generation has
other limits than training:

- One position of one sequence reads every weight once and computes next to nothing, so memory sets the pace [1]_: each
  product is one call of BLAS on the weight as it lies, with the threads of BLAS, which wait for the next one awake. In
  a small model, whose weights lie in the caches, the calls of NumPy themselves set the pace: hence one thread, vectors
  instead of matrices of one row, and no call too many.
- Many positions are large products. Each thread takes a run of positions through all blocks, and needs of those before
  only their keys and values.

References
----------
.. [1] R. Pope et al., "Efficiently Scaling Transformer Inference", https://arxiv.org/abs/2211.05102
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from threading import Barrier, BrokenBarrierError
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad, relu
from axone.autograd.extend import Array
from axone.llm.platform import available_cores, blas_threads
from axone.llm.team import Team
from axone.nn import MLP, KVCache, LayerNorm, Linear, MultiHeadAttention, RMSNorm, SwiGLU, Transformer
from axone.nn.functional import relu2, silu, swiglu
from axone.nn.functional.attention import Mask, attend
from axone.nn.module import Layer
from axone.nn.position import RotaryEmbedding
from axone.nn.transformer import Attention

Ids: TypeAlias = NDArray[np.integer[Any]]

_CACHED = 1 << 22  # weights: a smaller model lies in the caches, and is read by one core
_FEW = 64  # rows
_RUN = 32  # positions: fewer do not repay their hand-over to a thread

Step: TypeAlias = Callable[[Array], Array]
"""What a layer makes of N rows, (N, C) to (N, C), or of a single one, (C,) to (C,): a new array."""


class Place(NamedTuple):
    """What attention has to know of the N = B T rows."""

    batch: int
    positions: Ids  # (T,) or (B, T), counted from the beginning of each sequence
    mask: Mask | None  # (B, S), which of all columns belong to each sequence


class Reader:
    """Reads tokens into caches, and returns what may come next.

    Parameters
    ----------
    transformer : Transformer
        In evaluation mode. Its arrays are looked up now: they may be written to later, but not replaced.
    embedding : ndarray, shape (V, C)
    head : ndarray, shape (V, C)
    cores : int, optional
        How many threads work, by default one for each core, or a single one if the model lies in the caches.

    Attributes
    ----------
    cores : int
    """

    def __init__(self, transformer: Transformer, embedding: Array, head: Array, *, cores: int | None = None) -> None:
        if cores is None:
            weights = head.size + sum(parameter.size for parameter in transformer.parameters())
            cores = 1 if weights <= _CACHED else available_cores()
        self.cores = cores
        self._embedding = embedding
        self._learned = None if transformer.position is None else transformer.position.weight.data
        self._blocks = [
            (norm(block.attention_norm), _attention(block.attention), norm(block.mlp_norm), _mlp(block.mlp))
            for block in transformer.blocks
        ]
        self._norm = norm(transformer.norm)
        self._head = _product(head)

    def __call__(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None = None) -> Array:
        """Read some more tokens of each sequence.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache
            One for each block: hold the columns before, and take in these.
        starts : ndarray of int, shape (B,), optional
            The column where each sequence begins, by default the first: what stands before is not seen.

        Returns
        -------
        ndarray, shape (B, V)
            The logits after the last token of each.
        """
        B, T = ids.shape
        runs = min(self.cores, T // _RUN)
        with blas_threads(1 if self.cores == 1 else None):
            last = self._in_runs(ids, caches, starts, runs) if runs > 1 else self._read(ids, caches, starts)
            return self._head(self._norm(last[0] if B == 1 else last)).reshape(B, -1)

    def _read(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None) -> Array:
        """Take some positions through all blocks, and return what becomes of the last of each sequence: (B, C)."""
        B, T = ids.shape
        first = caches[0].length
        positions, mask = np.arange(first, first + T), None
        if starts is not None:
            positions = np.maximum(positions - starts[:, None], 0)  # (B, T)
            mask = np.arange(first + T) >= starts[:, None]  # (B, S)
        place = Place(B, positions, mask)
        x: Array = self._embedding.take(ids, axis=0)  # (B, T, C)
        if self._learned is not None:
            x += self._learned.take(positions, axis=0)
        x = x.reshape(-1) if B * T == 1 else x.reshape(B * T, -1)  # (C,) or (N, C)
        for (attention_norm, attention, mlp_norm, mlp), cache in zip(self._blocks, caches, strict=True):
            x += attention(attention_norm(x), cache, place)
            x += mlp(mlp_norm(x))
        return x.reshape(B, T, -1)[:, -1]

    def _in_runs(self, ids: Ids, caches: Sequence[KVCache], starts: Ids | None, runs: int) -> Array:
        """Share out the positions among threads, each run following the one before."""
        T = ids.shape[1]
        barrier = Barrier(runs)

        def read(start: int, stop: int) -> Array:
            shares = [_Share(cache, start, barrier) for cache in caches]
            try:
                return self._read(ids[:, start:stop], shares, starts)
            except BrokenBarrierError:  # another run has failed, and says why
                return np.empty(0)
            except BaseException:
                barrier.abort()
                raise

        cuts = [T * run // runs for run in range(runs + 1)]
        with blas_threads(1), Team(runs) as team:
            last = team.run([partial(read, start, stop) for start, stop in pairwise(cuts)])[-1]
        for cache in caches:
            cache.length += T
        return last


class _Share(KVCache):
    """A thread's part of a cache: it writes from `start` on, and reads when all have written.

    Parameters
    ----------
    whole : KVCache
    start : int
        Counted from the first new position.
    barrier : Barrier
        For all that write.
    """

    def __init__(self, whole: KVCache, start: int, barrier: Barrier) -> None:
        self._keys, self._values = whole._keys, whole._values
        self.length = whole.length + start
        self._barrier = barrier

    def append(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Write these positions, wait for those before, and return all up to these."""
        held = super().append(keys, values)
        self._barrier.wait()
        return held


def _product(weight: Array, bias: Array | None = None) -> Step:
    """``x W^T + b``.

    BLAS copies the second of two matrices into blocks before it multiplies. A few rows are copied sooner than a weight.
    """
    transposed = weight.T

    def step(x: Array) -> Array:
        few = x.ndim == 2 and len(x) <= _FEW
        y: Array = np.ascontiguousarray(weight.dot(x.T).T) if few else x.dot(transposed)
        if bias is not None:
            y += bias
        return y

    return step


def _linear(layer: Linear) -> Step:
    return _product(layer.weight.data, None if layer.bias is None else layer.bias.data)


def norm(layer: Layer) -> Step:
    """Layer normalization, or by the root mean square alone."""
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


def _column(of_rows: Array) -> Array:
    """Return one number for each row as a column, or that of a single vector, which NumPy takes quicker, as it is."""
    return of_rows[..., None] if of_rows.ndim else of_rows


def _mlp(layer: Layer) -> Step:
    if type(layer) is not MLP and type(layer) is not SwiGLU:
        return _as_it_is(layer)
    inner, down = hidden(layer, _linear), _linear(layer.down_proj)
    return lambda x: down(inner(x))


def hidden(layer: MLP | SwiGLU, linear: Callable[[Linear], Step]) -> Step:
    """What a feed-forward layer makes of rows before its last product; `linear` says how a `Linear` is computed."""
    up = linear(layer.up_proj)
    if isinstance(layer, SwiGLU):
        gate = linear(layer.gate_proj)

        def gated(x: Array) -> Array:
            with no_grad():
                return swiglu(Tensor(gate(x)), Tensor(up(x))).data

        return gated
    others = {"silu": silu, "relu": relu, "relu2": relu2}
    gelu = layer.activation == "gelu"
    activation = _gelu(layer.up_proj.weight.dtype) if gelu else _as_it_is(others[layer.activation])
    return lambda x: activation(up(x))


def _gelu(dtype: np.dtype[Any]) -> Step:
    """GELU in its tanh approximation, for rows that are too short to be worth a Tensor."""
    scale = math.sqrt(2 / math.pi)
    cubic, linear, half = (
        np.asarray(number, dtype) for number in (scale * 0.044715, scale, 0.5)
    )  # quicker than floats

    def step(x: Array) -> Array:
        gate = np.square(x)
        gate *= cubic
        gate += linear
        gate *= x
        np.tanh(gate, gate)
        x = x * half
        gate *= x
        gate += x
        return gate

    return step


Mixing: TypeAlias = Callable[[Array, KVCache, Place], Array]


def _attention(layer: Attention) -> Mixing:
    if type(layer) is not MultiHeadAttention:
        raise TypeError(f"a model is read by its MultiHeadAttention, and this one has {type(layer).__name__}")
    pack, mix, out_proj = _linear(layer.qkv_proj), mixing(layer, layer.num_kv_heads), _linear(layer.out_proj)
    return lambda x, cache, place: out_proj(mix(pack(x), cache, place))


def mixing(layer: MultiHeadAttention, kv_heads: int) -> Mixing:
    """What some heads make of their queries, keys and values, (N, (H + 2K) D) to (N, H D), with a cache for K heads."""
    K, D = kv_heads, layer.head_dim
    H = K * (layer.num_heads // layer.num_kv_heads)
    q_norm = None if layer.q_norm is None else norm(layer.q_norm)
    k_norm = None if layer.k_norm is None else norm(layer.k_norm)
    rotary, scale = layer.rotary, np.asarray(1 / math.sqrt(D), layer.qkv_proj.weight.dtype)

    def step(packed: Array, cache: KVCache, place: Place) -> Array:
        B, T = place.batch, place.positions.shape[-1]
        heads = packed.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)
        if q_norm is not None and k_norm is not None:
            heads[:, :H] = q_norm(heads[:, :H])
            heads[:, H : H + K] = k_norm(heads[:, H : H + K])
        if rotary is not None:
            _turn(heads[:, : H + K], rotary, place.positions)
        keys, values = cache.append(heads[:, H : H + K], heads[:, H + K :])  # (B, K, S, D)
        if T > 1:
            q = heads[:, :H].reshape(B, K, H // K, T, D)
            mask = None if place.mask is None else place.mask[:, None, None]
            out = attend(q, keys[:, :, None], values[:, :, None], mask=mask, causal=True)
        else:
            out = from_one(heads[:, :H].reshape(B, K, H // K, D), keys, values, place.mask)
        return out.reshape(*packed.shape[:-1], H * D)

    def from_one(q: Array, keys: Array, values: Array, mask: Mask | None) -> Array:
        """Attend from a single position of each sequence: (B, K, G, D)."""
        q *= scale
        p = np.matmul(q, keys.swapaxes(2, 3))  # (B, K, G, S)
        if mask is not None:
            np.copyto(p, -np.inf, where=~mask[:, None, None])
        p -= np.maximum.reduce(p, 3, keepdims=True)
        np.exp(p, p)
        out: Array = np.matmul(p, values)
        out /= np.add.reduce(p, 3, keepdims=True)
        return out

    return step


def _turn(heads: Array, rotary: RotaryEmbedding, positions: Ids) -> None:
    """Turn queries and keys, (B, H + K, T, D), by their positions."""
    cos, sin = rotary.tables(positions, heads.dtype)  # (T, D / 2) or (B, T, D / 2)
    if cos.ndim == 3:
        cos, sin = cos[:, None], sin[:, None]
    half = heads.shape[-1] // 2
    x, y = heads[..., :half], heads[..., half:]
    turned = x * cos - y * sin
    y *= cos
    y += x * sin
    x[...] = turned


def _as_it_is(layer: Layer) -> Step:
    """Call a layer that is not taken apart."""

    def step(x: Array) -> Array:
        with no_grad():
            return layer(Tensor(x)).data

    return step
