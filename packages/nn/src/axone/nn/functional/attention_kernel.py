"""The arithmetic of attention on arrays: forward and backward, in tiles of queries.

For each head, with M the mask (zero where a query may see a key, minus infinity where not), g the gradient of the output
and a scale, usually ``1 / sqrt(D)`` for heads of width D::

    S = scale q k^T + M        P = softmax(S)        out = P v

    dv = P^T g        dP = g v^T        dS = P (dP - rowsum(g out))        dq = scale dS k        dk = scale dS^T q

A tile is a run of queries against all keys that they may see: under a causal mask the keys after a tile's last query
are never touched, and only the square on the diagonal is masked. The backward needs P again. While the scores are
few, each tile keeps its P; where they are many, each row's logarithm of the sum of exponentials is kept instead, and P is
computed again from it [1]_, so that memory grows with the length and not with its square.

Shapes have five axes: K key heads, each serving G query heads (H = K G), so that shared keys are broadcast, not copied.

References
----------
.. [1] T. Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness",
   https://arxiv.org/abs/2205.14135
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from axone.autograd.extend import Array, empty
from axone.nn.functional.intra_op import chunks, parallel_for
from axone.nn.functional.matmul import matmul
from axone.nn.functional.softmax import softmax_rows

_TILE_ROWS = 64  # queries in a tile
_TILE_SCORES = 2**19  # in a tile of many heads: 2 MiB in float32
_KEPT_SCORES = 2**20  # up to here P is kept: 4 MiB in float32; to compute it again adds some 4 % to a training step


class Tile(NamedTuple):
    """The queries `start` to `stop` of some heads, which see the first `keys` keys."""

    batch: slice
    heads: slice
    start: int
    stop: int
    keys: int


Saved: TypeAlias = list[tuple[slice, list[Array] | Array]]
"""What the backward needs: runs of heads, with a list of each tile's P, or an array of each row's log-sum-exp."""


def attention_forward(
    q: Array, k: Array, v: Array, *, bias: Array | None, causal: bool, scale: float, out: Array, keep: bool
) -> Saved:
    """Write the attended values.

    Parameters
    ----------
    q : ndarray, shape (B, K, G, T, D)
    k, v : ndarray, shape (B, K, 1, S, D)
    bias : ndarray, shape (B, K, G, T, S), or None
        M: zero or minus infinity.
    causal : bool
        Whether a query sees the keys up to its own position only, the last query being at the last key.
    scale : float
        Multiplies the products of queries and keys.
    out : ndarray, shape (B, K, G, T, D)
        Where the result goes.
    keep : bool
        Whether a backward will follow.

    Returns
    -------
    Saved
        What `attention_backward` needs; nothing without `keep`.
    """
    count = math.prod(q.shape[:-1]) * k.shape[3] // (2 if causal else 1)
    recompute = count > _KEPT_SCORES

    def forward(heads: slice) -> tuple[slice, list[Array] | Array]:
        arrays = _of(heads, q, k, v, out)
        some_bias = None if bias is None else bias[:, heads]
        return heads, _forward(*arrays, bias=some_bias, causal=causal, scale=scale, keep=keep, recompute=recompute)

    K, D, E = k.shape[1], q.shape[4], v.shape[4]
    return parallel_for(forward, chunks(K, work=count * (D + E) // max(K, 1)))


def _forward(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    *,
    bias: Array | None,
    causal: bool,
    scale: float,
    keep: bool,
    recompute: bool,
) -> list[Array] | Array:
    """Write the attended values of some heads, and return what the backward needs of them."""
    lse = np.empty(q.shape[:-1], q.dtype) if keep and recompute else None
    kept: list[Array] = []
    q, kt = _scaled(q, k, scale)
    for tile in _tiles(q, k, causal=causal):
        b, h, rows, seen = tile.batch, tile.heads, slice(tile.start, tile.stop), slice(tile.keys)
        p, total, shift = softmax_rows(_tile_scores(q, kt, bias, tile, causal=causal))
        if lse is not None:
            np.add(np.log(total), shift, out=lse[b, h, :, rows])
        matmul(p, v[b, h, :, seen], out=out[b, h, :, rows])
        if keep and lse is None:
            kept.append(p)
    return kept if lse is None else lse


def attention_probabilities(q: Array, k: Array, *, bias: Array | None, causal: bool, scale: float) -> Array:
    """Return P whole, of shape (B, K, G, T, S); the rest as in `attention_forward`."""
    everything = Tile(slice(None), slice(None), 0, q.shape[3], k.shape[3])
    p, _, _ = softmax_rows(_tile_scores(*_scaled(q, k, scale), bias, everything, causal=causal))
    return p


def attention_backward(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    *,
    bias: Array | None,
    causal: bool,
    scale: float,
    out: Array,
    saved: Saved,
    into: tuple[Array, Array, Array],
) -> None:
    """Write the gradients of queries, keys and values, using up what was saved.

    Parameters
    ----------
    g, out : ndarray, shape (B, K, G, T, D)
        The output and its gradient.
    q, k, v, bias, causal, scale
        As in `attention_forward`.
    saved : Saved
        What `attention_forward` returned.
    into : tuple of ndarray
        Where the three gradients go: of the shapes of `q`, `k` and `v`.
    """

    def backward(part: tuple[slice, list[Array] | Array]) -> None:
        heads, kept = part
        arrays = _of(heads, g, out, q, k, v, *into)
        some_bias = None if bias is None else bias[:, heads]
        _backward(*arrays, bias=some_bias, causal=causal, scale=scale, saved=kept)

    parallel_for(backward, saved)


def _backward(
    g: Array,
    out: Array,
    q: Array,
    k: Array,
    v: Array,
    dq: Array,
    dk: Array,
    dv: Array,
    *,
    bias: Array | None,
    causal: bool,
    scale: float,
    saved: list[Array] | Array,
) -> None:
    """Write the gradients of some heads."""
    scaled_q, kt = (q, k) if isinstance(saved, list) else _scaled(q, k, scale)
    vt = _transposed(v, scale)  # (B, K, 1, E, S)
    for tile in reversed(list(_tiles(q, k, causal=causal))):
        b, h, rows, seen = tile.batch, tile.heads, slice(tile.start, tile.stop), slice(tile.keys)
        if isinstance(saved, list):
            p = saved.pop()
        else:
            p = _tile_scores(scaled_q, kt, bias, tile, causal=causal)
            p -= saved[b, h, :, rows, None]
            np.exp(p, out=p)
        g_tile = g[b, h, :, rows]
        last = tile.stop == q.shape[3]  # the first to come, and the one that reaches all keys
        _product_over_queries(p, g_tile, dv[b, h, :, seen], add=not last)
        ds = matmul(g_tile, vt[b, h, ..., seen])
        shift = np.vecdot(g_tile, out[b, h, :, rows])
        shift *= scale
        ds -= shift[..., None]
        ds *= p
        matmul(ds, k[b, h, :, seen], out=dq[b, h, :, rows])
        _product_over_queries(ds, q[b, h, :, rows], dk[b, h, :, seen], add=not last)


def _of(heads: slice, *arrays: Array) -> Sequence[Array]:
    """Return views of some heads of each array; the arrays themselves if these are all."""
    return arrays if heads.stop - heads.start == arrays[0].shape[1] else [x[:, heads] for x in arrays]


def _tiles(q: Array, k: Array, *, causal: bool) -> Iterator[Tile]:
    """Yield the tiles: of all heads at once if that fits, else of some at a time, the queries first to last."""
    B, K, G, T, _ = q.shape
    S = k.shape[3]
    fitting = max(_TILE_SCORES // max(G * min(T, _TILE_ROWS) * S, 1), 1)  # key heads in a tile
    heads = min(fitting, K)
    batch = max(fitting // max(K, 1), 1)
    for b in range(0, B, batch):
        for h in range(0, K, heads):
            for start in range(0, T, _TILE_ROWS):
                stop = min(start + _TILE_ROWS, T)
                yield Tile(slice(b, b + batch), slice(h, h + heads), start, stop, max(S - T + stop, 0) if causal else S)


def _scaled(q: Array, k: Array, scale: float) -> tuple[Array, Array]:
    """Return queries and transposed keys whose products are the scores.

    With many queries a transposed copy of the keys pays.
    """
    if q.shape[3] < _TILE_ROWS:
        return q * scale, k.swapaxes(-1, -2)
    return q, _transposed(k, scale)


def _transposed(x: Array, scale: float = 1) -> Array:
    """Return the last two axes swapped, as a copy: BLAS multiplies by a transposed view at two thirds of its speed."""
    x = x.swapaxes(-1, -2)
    return np.multiply(x, scale, out=empty(x.shape, x.dtype))


def _tile_scores(q: Array, kt: Array, bias: Array | None, tile: Tile, *, causal: bool) -> Array:
    """Return S of a tile: (B, K, G, rows, keys)."""
    b, h, rows = tile.batch, tile.heads, slice(tile.start, tile.stop)
    scores = matmul(q[b, h, :, rows], kt[b, h, ..., : tile.keys])
    if bias is not None:
        scores += bias[b, h, :, rows, : tile.keys]
    if causal and (queries := tile.stop - tile.start) > 1:
        square = min(queries, tile.keys)
        scores[..., tile.keys - square :] += _causal_bias(queries, square, scores.dtype)
    return scores


@functools.lru_cache(maxsize=16)
def _causal_bias(queries: int, keys: int, dtype: np.dtype[Any]) -> Array:
    """Return zero for the keys up to each query's own, the last query being at the last key, and minus infinity."""
    bias = np.where(np.tri(queries, keys, keys - queries, dtype=np.bool_), 0, -np.inf).astype(dtype)
    bias.flags.writeable = False
    return bias


def _product_over_queries(a: Array, b: Array, out: Array, *, add: bool) -> None:
    """Write or add ``a^T b``, summed over the query heads that share a key head: they are but more rows."""
    B, K, G, R = a.shape[:4]
    a = a.reshape(B, K, 1, G * R, a.shape[4]).swapaxes(-1, -2)
    b = b.reshape(B, K, 1, G * R, b.shape[4])
    if add:
        out += matmul(a, b)
    else:
        matmul(a, b, out=out)
