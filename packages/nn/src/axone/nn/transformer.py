"""Transformer: pre-norm blocks on a residual stream, with the loop over the blocks for training and for decoding.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] R. Xiong et al., "On Layer Normalization in the Transformer Architecture", https://arxiv.org/abs/2002.04745
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn.cache import KVCache
from axone.nn.decoding import Attention, CachedForward, CachedModule, DecodeContext, cached_inference, call_on_rows
from axone.nn.embedding import Embedding
from axone.nn.functional.linear import Dense, dense_product
from axone.nn.functional.prefix_attention import AttentionMask, SharedPrefix
from axone.nn.module import Layer, Module, inference, restore_default
from axone.nn.position import Positions

StackForward: TypeAlias = Callable[[Array, Sequence[KVCache], DecodeContext], Array]
"""As `CachedForward`, with one cache for each block."""


class TransformerBlock(CachedModule):
    """Attention and a feed-forward layer, each of which reads the normalized stream and adds to the stream.

    ``x = x + attention(attention_norm(x))``, then ``x = x + mlp(mlp_norm(x))``.

    Parameters
    ----------
    attention : Attention
        Such as `MultiHeadAttention`.
    mlp : callable
        From (B, T, C) to (B, T, C), such as `FeedForward`.
    attention_norm, mlp_norm : callable
        Such as `LayerNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import FeedForward, LayerNorm, MultiHeadAttention, TransformerBlock
    >>> block = TransformerBlock(
    ...     MultiHeadAttention(8, 2),
    ...     FeedForward(8, 32),
    ...     attention_norm=LayerNorm(8),
    ...     mlp_norm=LayerNorm(8),
    ... )
    >>> block(Tensor(np.ones((1, 3, 8), np.float32))).shape
    (1, 3, 8)
    """

    def __init__(self, attention: Attention, mlp: Layer, *, attention_norm: Layer, mlp_norm: Layer) -> None:
        self.attention_norm = attention_norm
        self.attention = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Return the stream after this block.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask, cache, positions
            As in `MultiHeadAttention`.

        Returns
        -------
        Tensor, shape (B, T, C)
        """
        x = x + self.attention(self.attention_norm(x), mask=mask, cache=cache, positions=positions)
        return x + self.mlp(self.mlp_norm(x))

    def cached_inference(self, dense: Dense = dense_product) -> CachedForward:
        """Return the block's forward on plain arrays, with a cache: it adds to its input in place."""
        attention_norm, mlp_norm = inference(self.attention_norm, dense), inference(self.mlp_norm, dense)
        attention, mlp = cached_inference(self.attention, dense), inference(self.mlp, dense)

        def forward(x: Array, cache: KVCache, context: DecodeContext) -> Array:
            normed = attention_norm(x)
            if context.last_only:
                x = context.last_rows(x)
            x += attention(normed, cache, context)
            x += mlp(mlp_norm(x))
            return x

        return forward


class Transformer(Module):
    """A stack of blocks with a final normalization, and learned positions if given.

    Parameters
    ----------
    blocks : sequence of TransformerBlock
    norm : callable
        The final normalization.
    position : Embedding, optional
        A learned vector for each position, added to the stream before the first block.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import (
    ...     FeedForward,
    ...     LayerNorm,
    ...     MultiHeadAttention,
    ...     Transformer,
    ...     TransformerBlock,
    ... )
    >>> blocks = [
    ...     TransformerBlock(
    ...         MultiHeadAttention(8, 2),
    ...         FeedForward(8, 32),
    ...         attention_norm=LayerNorm(8),
    ...         mlp_norm=LayerNorm(8),
    ...     )
    ...     for _ in range(2)
    ... ]
    >>> Transformer(blocks, norm=LayerNorm(8))(Tensor(np.ones((1, 3, 8), np.float32))).shape
    (1, 3, 8)
    """

    def __init__(self, blocks: Sequence[TransformerBlock], *, norm: Layer, position: Embedding | None = None) -> None:
        self.position = position
        self.blocks = list(blocks)
        self.norm = norm

    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        caches: Sequence[KVCache] | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Return the stream after all blocks.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask : ndarray of bool or SharedPrefix, optional
            As in `MultiHeadAttention`.
        caches : sequence of KVCache, optional
            One for each block; for inference only.
        positions : ndarray of int, shape (T,) or (B, T), optional
            By default they follow those in the caches. With left padding, each sequence counts from its own beginning.

        Returns
        -------
        Tensor, shape (B, T, C)

        Raises
        ------
        ValueError
            If there are not as many caches as blocks, or more positions than were learned.
        """
        if caches is not None and len(caches) != len(self.blocks):
            raise ValueError(f"caches ({len(caches)}) must be as many as blocks ({len(self.blocks)})")
        if positions is None:
            first = caches[0].length if caches else 0
            after = np.arange(first, first + x.shape[1])
            positions = mask.positions(x.shape[1]) if isinstance(mask, SharedPrefix) else after
        if self.position is not None:
            known, last = self.position.weight.shape[0], int(positions.max(initial=-1))
            if last >= known:
                raise ValueError(
                    f"position {last} must be below {known}, the number of learned positions: shorten the input"
                )
            x = x + self.position(positions)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, cache=caches[i] if caches else None, positions=positions)
        return self.norm(x)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        restore_default(cls, "cached_inference", _call_stack_on_rows)

    def cached_inference(self, dense: Dense = dense_product) -> StackForward:
        """Return the forward on plain arrays, with a cache for each block: the loop over the blocks without a tape.

        Parameters
        ----------
        dense : callable, optional
            From a weight (out, in) and a bias or None to the function that computes ``x W^T + b``: by default one product.

        Returns
        -------
        callable
            From rows (N, C) or one vector (C,), one `KVCache` for each block and a `DecodeContext` to rows (N, C), or
            (B, C) if only the last positions are wanted; those of a single sequence are one vector (C,), which NumPy
            handles faster. It overwrites its input.
        """
        learned = None if self.position is None else self.position.weight.data
        blocks, norm = [block.cached_inference(dense) for block in self.blocks], inference(self.norm, dense)

        def forward(x: Array, caches: Sequence[KVCache], context: DecodeContext) -> Array:
            if learned is not None and x.ndim == 1:
                x += learned[context.positions.item()]
            elif learned is not None:
                rows = x.reshape(context.batch, -1, x.shape[1])  # (B, T, C), a view
                rows += learned.take(context.positions, axis=0)
            every = context._replace(last_only=False) if context.last_only else context
            for block, cache in zip(blocks, caches, strict=True):
                x = block(x, cache, context if cache is caches[-1] else every)
            return norm(x[0] if context.last_only and len(x) == 1 else x)

        return forward


def _call_stack_on_rows(self: Transformer, dense: Dense = dense_product) -> StackForward:  # noqa: ARG001 - as the method
    """Return a function of arrays that calls a Transformer under `no_grad`: for classes that redefine ``__call__``."""

    def forward(x: Array, caches: Sequence[KVCache], context: DecodeContext) -> Array:
        y = call_on_rows(
            lambda rows, mask: self(rows, mask=mask, caches=caches, positions=context.positions), x, context
        )
        return y[0] if context.last_only and len(y) == 1 else y

    return forward
