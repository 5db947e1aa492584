"""The pre-norm Transformer: blocks on a residual stream.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] R. Xiong et al., "On Layer Normalization in the Transformer Architecture", https://arxiv.org/abs/2002.04745
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from axone.autograd import Tensor
from axone.nn.cache import KVCache
from axone.nn.embedding import Embedding
from axone.nn.functional.attention import Mask
from axone.nn.module import Layer, Module
from axone.nn.position import Positions


class Attention(Protocol):
    """What a block asks of its attention; `MultiHeadAttention` is one."""

    def __call__(
        self,
        x: Tensor,
        *,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Return what each position gathers from those that it sees."""


class TransformerBlock(Module):
    """Attention, then a feed-forward layer, each on a normalized copy of the stream and added back to it.

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
    ...     MultiHeadAttention(8, 2), FeedForward(8, 32), attention_norm=LayerNorm(8), mlp_norm=LayerNorm(8)
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
        mask: Mask | None = None,
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


class Transformer(Module):
    """A stack of blocks with a last normalization, and learned positions if given.

    Parameters
    ----------
    blocks : sequence of TransformerBlock
    norm : callable
        The last normalization.
    position : Embedding, optional
        A learned vector for each position, added to the stream before the first block.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import FeedForward, LayerNorm, MultiHeadAttention, Transformer, TransformerBlock
    >>> blocks = [
    ...     TransformerBlock(
    ...         MultiHeadAttention(8, 2), FeedForward(8, 32), attention_norm=LayerNorm(8), mlp_norm=LayerNorm(8)
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
        mask: Mask | None = None,
        caches: Sequence[KVCache] | None = None,
        positions: Positions | None = None,
    ) -> Tensor:
        """Return the stream after all blocks.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)
        mask : ndarray of bool, optional
            As in `MultiHeadAttention`.
        caches : sequence of KVCache, optional
            One for each block; for inference only.
        positions : ndarray of int, shape (T,) or (B, T), optional
            Where these are; by default they follow those in the caches. Texts of a batch that are padded on the left
            each count from their own beginning.

        Returns
        -------
        Tensor, shape (B, T, C)

        Raises
        ------
        ValueError
            If there are not as many caches as blocks, or a position was never learned.
        """
        if caches is not None and len(caches) != len(self.blocks):
            raise ValueError(f"this Transformer needs {len(self.blocks)} caches, one for each block: got {len(caches)}")
        if positions is None:
            first = caches[0].length if caches else 0
            positions = np.arange(first, first + x.shape[1])
        if self.position is not None:
            known, last = self.position.weight.shape[0], int(positions.max(initial=-1))
            if last >= known:
                raise ValueError(
                    f"this Transformer knows {known} positions, and {last + 1} are needed: shorten the input"
                )
            x = x + self.position(positions)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, cache=caches[i] if caches else None, positions=positions)
        return self.norm(x)
