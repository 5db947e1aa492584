"""Which models may be taken apart, to be computed in another way: those of the layers of `axone.nn` and no others.

A subclass of such a layer may compute something else, so it is not one of them.
"""

from __future__ import annotations

from typing import TypeAlias

from axone.nn import FeedForward, LayerNorm, Linear, MultiHeadAttention, RMSNorm, SwiGLU, Transformer, TransformerBlock

Norm: TypeAlias = LayerNorm | RMSNorm


def is_known(transformer: Transformer) -> bool:
    """Tell whether all layers of a Transformer are known."""
    blocks, norms = transformer.blocks, [transformer.norm]
    for block in blocks:
        norms += block.attention_norm, block.mlp_norm
    return (
        all(type(norm) in {LayerNorm, RMSNorm} for norm in norms)
        and all(type(block.attention) is MultiHeadAttention for block in blocks)
        and all(type(block.mlp) in {FeedForward, SwiGLU} for block in blocks)
        and all(type(part) in {Linear, RMSNorm} for part in transformer.modules() if isinstance(part, Linear | RMSNorm))
    )


def parts(block: TransformerBlock) -> tuple[Norm, MultiHeadAttention, Norm, FeedForward | SwiGLU]:
    """Return the layers of a block, in the order in which they are computed.

    Raises
    ------
    TypeError
        If one is not known.
    """
    first, attention, second, mlp = block.attention_norm, block.attention, block.mlp_norm, block.mlp
    if (
        not isinstance(first, Norm)
        or not isinstance(attention, MultiHeadAttention)
        or not isinstance(second, Norm)
        or not isinstance(mlp, FeedForward | SwiGLU)
    ):
        names = ", ".join(type(layer).__name__ for layer in (first, attention, second, mlp))
        raise TypeError(f"a block must be of known layers to be taken apart, and this one is of {names}")
    return first, attention, second, mlp
