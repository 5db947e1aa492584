"""Decoding: forwards on plain arrays that read keys and values of earlier positions from a cache.

`Module.inference` describes layers that treat each position on its own. Attention, and blocks of it, also need a cache,
the positions and a mask: `CachedModule.cached_inference`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from axone.autograd import Tensor, no_grad
from axone.autograd.extend import Array
from axone.nn.cache import KVCache
from axone.nn.functional.attention import Mask
from axone.nn.functional.linear import Dense, dense_product
from axone.nn.functional.prefix_attention import AttentionMask
from axone.nn.module import Module, restore_default
from axone.nn.position import Positions


class DecodeContext(NamedTuple):
    """Batch size, positions and mask of the N = B T rows of one decoding step.

    Attributes
    ----------
    batch : int
        B.
    positions : ndarray of int, shape (T,) or (B, T)
        Counted from the beginning of each sequence.
    mask : ndarray of bool, shape (B, S), or None
        True where a position in the cache belongs to the sequence: the padding on the left does not.
    last_only : bool
        Whether only the last position of each sequence is wanted: (N, C) becomes (B, C).
    each_alone : bool
        Whether attention computes one position of a sequence after the other, with the bits that each gets alone.
    """

    batch: int
    positions: Positions
    mask: Mask | None = None
    last_only: bool = False
    each_alone: bool = False

    def last_rows(self, x: Array) -> Array:
        """Return the rows (B, C) of the last position of each sequence."""
        rows: Array = x.reshape(self.batch, -1, x.shape[-1])[:, -1]
        return rows


@functools.lru_cache(maxsize=1 << 12)
def single_position(position: int) -> DecodeContext:
    """Return the context of one position of one sequence; to look it up takes a tenth of the time of making it."""
    positions = np.asarray([position])
    positions.flags.writeable = False
    return DecodeContext(1, positions)


def few_positions(first: int, count: int) -> DecodeContext:
    """Return the context of a few positions of one sequence, each of which gets the bits that it gets alone."""
    positions = np.arange(first, first + count)
    positions.flags.writeable = False  # so that the layers share the tables of rotary embeddings
    return DecodeContext(1, positions, each_alone=True)


CachedForward: TypeAlias = Callable[[Array, KVCache, DecodeContext], Array]
"""From rows (N, C), or one vector (C,), their cache and context to a new array, without a tape."""


class Attention(Protocol):
    """An attention layer, as a `TransformerBlock` calls it."""

    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Return the values that each position gathers from those that it sees."""


class CachedModule(Module):
    """A module that attends to earlier positions: it is called as `Attention`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        restore_default(cls, "cached_inference", CachedModule.cached_inference)

    def cached_inference(self, dense: Dense = dense_product) -> CachedForward:  # noqa: ARG002 - overridden methods use it
        """Return the forward on plain arrays, with a cache: by default a call of the module under `no_grad`.

        Parameters
        ----------
        dense : callable, optional
            From a weight and a bias to the function that computes their linear product.

        Returns
        -------
        callable
            From rows (N, C) or one vector (C,), a `KVCache` and a `DecodeContext` to a new array.
        """
        return call_with_cache(cast("Attention", self))


def cached_inference(attention: Attention, dense: Dense = dense_product) -> CachedForward:
    """Return the forward on plain arrays, with a cache, of an attention layer that need not be a module."""
    return attention.cached_inference(dense) if isinstance(attention, CachedModule) else call_with_cache(attention)


def call_with_cache(attention: Attention) -> CachedForward:
    """Return a function of arrays that calls an attention layer under `no_grad`."""
    return lambda x, cache, context: call_on_rows(
        lambda rows, mask: attention(rows, mask=mask, cache=cache, positions=context.positions), x, context
    )


def call_on_rows(call: Callable[[Tensor, Mask | None], Tensor], x: Array, context: DecodeContext) -> Array:
    """Call a function of a Tensor (B, T, C) and a mask under `no_grad` on rows (N, C) or one vector (C,)."""
    mask = None if context.mask is None else context.mask[:, None, None]  # (B, 1, 1, S)
    with no_grad():
        y = call(Tensor(x.reshape(context.batch, -1, x.shape[-1])), mask).data
    return context.last_rows(y) if context.last_only else y.reshape(*x.shape[:-1], y.shape[-1])
