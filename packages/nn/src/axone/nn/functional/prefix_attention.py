"""Attention of sequences that begin with the same positions, which are computed once.

The batch is laid out as one sequence: the P shared positions, then the other T positions of each of B sequences. A
position of a sequence attends to the shared positions and to the earlier ones of its own sequence; the gradients of the
shared keys and values are sums over the sequences.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, needs_grad, record
from axone.nn.functional.attention import Mask, default_scale, group_heads, mask_bias, split_heads
from axone.nn.functional.attention_kernel import attention_backward, attention_forward
from axone.nn.functional.validation import check_dtypes, shape_error


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """The layout of sequences that begin with the same positions, to be given to an attention layer as its mask.

    Attributes
    ----------
    length : int
        P, the number of shared positions. They come first.
    rows : int
        B, the number of sequences. Their other positions follow, T for each.
    mask : ndarray of bool, broadcasts to (B, H, T, T), optional
        Which of these positions attend to which of the same sequence; all attend to the shared positions.
    """

    length: int
    rows: int
    mask: Mask | None = None

    def positions(self, total: int) -> NDArray[np.int64]:
        """Return the position of each element of the layout in its own sequence.

        Parameters
        ----------
        total : int
            P + B T.

        Returns
        -------
        ndarray of int, shape (P + B T,)
        """
        length = self.length + (total - self.length) // self.rows
        return np.concatenate([np.arange(self.length), np.tile(np.arange(self.length, length), self.rows)])


AttentionMask: TypeAlias = Mask | SharedPrefix
"""A mask as an array, or the layout of sequences that begin with the same positions."""


def prefix_attention(
    qkv: Tensor, num_heads: int, num_kv_heads: int, prefix: SharedPrefix, *, scale: float | None = None
) -> Tensor:
    """Attend in causal order, with queries, keys and values that lie in one array.

    Parameters
    ----------
    qkv : Tensor, shape (1, P + B T, (H + 2 K) D)
        The heads of the queries, then of the keys, then of the values.
    num_heads, num_kv_heads : int
        H and K.
    prefix : SharedPrefix
        P and B.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (1, P + B T, H D)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    check_dtypes("prefix_attention", qkv)
    H, K, P, B = num_heads, num_kv_heads, prefix.length, prefix.rows
    N, width = qkv.shape[-2:]
    if qkv.ndim != 3 or len(qkv.data) != 1 or H % K or width % (H + 2 * K) or N <= P or (N - P) % B:
        raise shape_error("prefix_attention", f"(1, {P} + {B} T, {H + 2 * K} D)", qkv.shape)
    T = (N - P) // B
    scale = default_scale(width // (H + 2 * K)) if scale is None else scale
    keep = needs_grad(qkv)
    mask = prefix.mask
    if mask is not None:  # the shared positions are seen by all
        mask = np.concatenate([np.ones((*mask.shape[:-1], P), np.bool_), mask], axis=-1)
    bias = mask_bias(mask, (B, H, T, P + T), K, qkv.dtype)

    def parts(x: Array) -> tuple[Array, Array]:
        """Return views of the shared positions (1, P, ...) and of the others (B, T, ...)."""
        return x[:, :P], x[0, P:].reshape(B, T, x.shape[2])

    merged = empty((1, N, width // (H + 2 * K) * H), qkv.dtype)
    first, rest = (split_heads(part, H, K) for part in parts(qkv.data))
    first_out, rest_out = (group_heads(part, H, K) for part in parts(merged))
    keys, values = (
        _joined(shared, own) for shared, own in zip(first[1:], rest[1:], strict=True)
    )  # (B, K, 1, P + T, D)
    first_saved = attention_forward(*first, bias=None, causal=True, scale=scale, out=first_out, keep=keep)
    rest_saved = attention_forward(rest[0], keys, values, bias=bias, causal=True, scale=scale, out=rest_out, keep=keep)

    def vjp(g: Array) -> tuple[Array]:
        grads = empty(qkv.shape, g.dtype)
        (first_g, rest_g), (first_grads, rest_grads) = parts(g), parts(grads)
        first_into, rest_into = split_heads(first_grads, H, K), split_heads(rest_grads, H, K)
        attention_backward(
            group_heads(first_g, H, K),
            *first,
            bias=None,
            causal=True,
            scale=scale,
            out=first_out,
            saved=first_saved,
            into=first_into,
        )
        into = rest_into[0], empty(keys.shape, g.dtype), empty(values.shape, g.dtype)
        attention_backward(
            group_heads(rest_g, H, K),
            rest[0],
            keys,
            values,
            bias=bias,
            causal=True,
            scale=scale,
            out=rest_out,
            saved=rest_saved,
            into=into,
        )
        for joined, shared, own in zip(into[1:], first_into[1:], rest_into[1:], strict=True):
            np.add(shared, joined[..., :P, :].sum(axis=0, keepdims=True), out=shared)
            own[...] = joined[..., P:, :]
        return (grads,)

    return record("prefix_attention", merged, (qkv,), vjp)


def _joined(shared: Array, own: Array) -> Array:
    """Return the keys or values of each sequence: (1, K, 1, P, D) and (B, K, 1, T, D) to (B, K, 1, P + T, D)."""
    B, K, _, T, D = own.shape
    P = shared.shape[3]
    joined = empty((B, K, 1, P + T, D), own.dtype)
    joined[..., :P, :] = shared
    joined[..., P:, :] = own
    return joined
