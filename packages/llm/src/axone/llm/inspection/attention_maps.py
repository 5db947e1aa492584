"""What a model attends to: the weights of every head of every block on a text, and a picture of them.

They tell where a head looks, not what it does with what it finds [2]_.

The library for the picture is imported when it is needed: ``pip install axone-llm[report]``.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] S. Jain, B. C. Wallace, "Attention is not Explanation", https://arxiv.org/abs/1902.10186
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn import KVCache, Module, MultiHeadAttention, Transformer, TransformerBlock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TOKEN, _GAP = 0.17, 0.32  # inches: the side of a square, and what lies between two maps besides the tokens
_SMALLEST_MAP = 1.5  # inches
_BAR = 0.8  # inches: the scale of colours, on the right
_LETTER = 0.075  # inches: the width of a letter of a label
_FAINTEST = 0.5  # the power that lifts small weights: a tenth is then seen
_COLORS = "magma_r"
_LARGEST = 4000.0  # square inches


@no_grad()
def attention_maps(model: LanguageModel, ids: Ids) -> NDArray[np.floating[Any]]:
    """Return where every head of every block looks.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    ids : ndarray of int, shape (T,)
        At most `context_length`.

    Returns
    -------
    ndarray, shape (L, H, T, T)
        For each block, head and position, how much of what it gathers comes from each position: rows add up to one.

    Raises
    ------
    ValueError
        If there are no tokens, or more than the context.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, attention_maps
    >>> config = LanguageModelConfig(vocab_size=65, context_length=64, num_layers=2, num_heads=4, embed_dim=32)
    >>> attention_maps(LanguageModel(config).eval(), np.arange(10)).shape
    (2, 4, 10, 10)
    """
    length = model.config.context_length
    if not 0 < len(ids) <= length:
        raise ValueError(f"the text must have 1 to {length} tokens for this model, and has {len(ids)}")
    transformer, maps = model.transformer, list[NDArray[np.floating[Any]]]()
    blocks = [
        TransformerBlock(
            _Watched(block.attention, maps), block.mlp, attention_norm=block.attention_norm, mlp_norm=block.mlp_norm
        )
        for block in transformer.blocks
    ]
    watched = Transformer(blocks, norm=transformer.norm, position=transformer.position)
    watched(model.embedding(np.asarray(ids)[None]))
    return np.stack(maps)


class _Watched(Module):
    """An attention whose weights are added to a list."""

    def __init__(self, attention: object, maps: list[NDArray[np.floating[Any]]]) -> None:
        if not isinstance(attention, MultiHeadAttention):
            raise TypeError(f"attention maps are of MultiHeadAttention, and this block has {attention!r}")
        self.attention = attention
        self._maps = maps

    def __call__(
        self,
        x: Tensor,
        *,
        mask: NDArray[np.bool_] | None = None,
        cache: KVCache | None = None,
        positions: NDArray[np.integer[Any]] | None = None,
    ) -> Tensor:
        """Return what the attention returns."""
        out, weights = self.attention(x, mask=mask, cache=cache, positions=positions, return_weights=True)
        self._maps.append(weights[0])
        return out


def plot_attention(
    maps: NDArray[np.floating[Any]],
    tokens: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Figure:
    """Draw attention maps: a row of pictures for each layer, side by side its heads.

    Parameters
    ----------
    maps : ndarray, shape (L, H, T, T)
        From `attention_maps`.
    tokens : sequence of str, length T
        Labels of the axes: each row is a token that looks, each column one that is looked at.
    layers, heads : sequence of int, optional
        Which to draw, counted from 0; by default all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there are not as many labels as tokens, no such layer or head, or the picture would be too large to look at.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    L, H, T = maps.shape[:3]
    if len(tokens) != T:
        raise ValueError(f"each of the {T} tokens needs a label, and {len(tokens)} came")
    rows = _chosen("layer", layers, L)
    columns = _chosen("head", heads, H)
    side = max(_TOKEN * T, _SMALLEST_MAP)
    margin = _GAP + _LETTER * max(map(len, tokens))  # left of each map and above it, for the tokens
    width = len(columns) * (margin + side) + _GAP + _BAR
    height = len(rows) * (margin + side) + _GAP
    if width * height > _LARGEST:
        raise ValueError(
            f"a picture must have at most {_LARGEST:,.0f} square inches, and {len(rows)} layers of {len(columns)} heads "
            f"on {T} tokens take {width * height:,.0f}: choose fewer of them, or a shorter text"
        )
    figure = Figure(figsize=(width, height))

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    scale = PowerNorm(_FAINTEST, 0.0, 1.0)
    later = np.triu(np.ones((T, T), bool), 1)
    for i, layer in enumerate(rows):
        for j, head in enumerate(columns):
            axes = place(margin + j * (margin + side), margin + i * (margin + side), side, side)
            axes.imshow(np.ma.masked_array(maps[layer, head], later), cmap=_COLORS, norm=scale)
            axes.text(0.97, 0.97, f"layer {layer + 1}\nhead {head + 1}", ha="right", va="top", transform=axes.transAxes)
            _label(axes, tokens)
    bar = place(width - _BAR, margin, 0.14, min(side, 3.0))
    figure.colorbar(ScalarMappable(scale, _COLORS), cax=bar, ticks=[0.0, 0.02, 0.1, 0.25, 0.5, 1.0])
    return figure


def _chosen(kind: str, numbers: Sequence[int] | None, count: int) -> list[int]:
    if numbers is None:
        return list(range(count))
    for number in numbers:
        if not 0 <= number < count:
            raise ValueError(f"a {kind} is one of 0 to {count - 1} in this model, and got {number}")
    return list(numbers)


def _label(axes: Axes, tokens: Sequence[str]) -> None:
    """Write the tokens above and beside a map."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(tokens)), tokens, fontsize=8, fontfamily="monospace")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    if max(map(len, tokens)) > 1:
        axes.tick_params(axis="x", rotation=90)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
