"""Attention maps: the attention weights of every head and block for a text, as numbers and as a picture.

The weights show the positions that a head attends to, not its use of the values there [2]_.

The picture needs matplotlib: ``pip install axone-llm[report]``.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
.. [2] S. Jain, B. C. Wallace, "Attention is not Explanation", https://arxiv.org/abs/1902.10186
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.llm.errors import MissingDependencyError
from axone.llm.model import LanguageModel
from axone.llm.types import Ids
from axone.nn import KVCache, Module, MultiHeadAttention, Transformer, TransformerBlock
from axone.nn.extend import AttentionMask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _GAP = 0.17, 0.32  # inches: the side of a cell, and the space between two maps besides their labels
_MIN_MAP = 1.5  # inches
_COLOR_BAR = 0.8  # inches
_PAGE = 10.5  # inches: at 75 pixels per inch, as a page of 800 pixels shows it, a label is 10 pixels high
_LETTER = 0.09  # inches: the width of a letter of a label
_FONT = 10  # points
_GAMMA = 0.5  # exponent of the color scale: a weight of a tenth is visible
_COLORS = "magma_r"
_MAX_AREA = 4000.0  # square inches


@no_grad()
def attention_maps(model: LanguageModel, ids: Ids) -> NDArray[np.floating[Any]]:
    """Return the attention weights of every head of every block.

    Parameters
    ----------
    model : LanguageModel
        A model in evaluation mode.
    ids : ndarray of int, shape (T,)
        Tokens, at most `context_length`.

    Returns
    -------
    ndarray, shape (L, H, T, T)
        For each block, head and position, the weights of all positions, which sum to 1.

    Raises
    ------
    ValueError
        If there are no tokens, or more than `context_length`.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, attention_maps
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=2, num_heads=4, embed_dim=32
    ... )
    >>> attention_maps(LanguageModel(config).eval(), np.arange(10)).shape
    (2, 4, 10, 10)
    """
    length = model.config.context_length
    if not 0 < len(ids) <= length:
        raise ValueError(f"the number of tokens ({len(ids)}) must be from 1 to {length} for this model")
    transformer, maps = model.transformer, list[NDArray[np.floating[Any]]]()
    blocks = [
        TransformerBlock(
            _Watched(block.attention, maps), block.mlp, attention_norm=block.attention_norm, mlp_norm=block.mlp_norm
        )
        for block in transformer.blocks
    ]
    watched = Transformer(blocks, norm=transformer.norm, position=transformer.position)
    watched(model.embed(np.asarray(ids)[None]))
    return np.stack(maps)


class _Watched(Module):
    """Attention layer that appends its weights to a list."""

    def __init__(self, attention: object, maps: list[NDArray[np.floating[Any]]]) -> None:
        if not isinstance(attention, MultiHeadAttention):
            raise TypeError(f"attention maps require MultiHeadAttention: {attention!r} is not supported")
        self.attention = attention
        self._maps = maps

    def __call__(
        self,
        x: Tensor,
        *,
        mask: AttentionMask | None = None,
        cache: KVCache | None = None,
        positions: NDArray[np.integer[Any]] | None = None,
    ) -> Tensor:
        """Return the output of the attention layer."""
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
    """Draw attention maps: one or more rows per layer, one map per head.

    A row has as many maps as fit on a page with legible labels. A notebook shows the picture.

    Parameters
    ----------
    maps : ndarray, shape (L, H, T, T)
        Weights, from `attention_maps`.
    tokens : sequence of str, length T
        Labels of the axes: rows are tokens that attend, columns are tokens that are attended to.
    layers, heads : sequence of int, optional
        Layers and heads to draw, counted from 0; by default all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the number of labels differs from T, a layer or head does not exist, or the picture would be too large.
    """
    try:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import PowerNorm

        from axone.llm.inspection.figure import NotebookFigure
    except ImportError as error:
        raise MissingDependencyError("attention plots", "matplotlib", "axone-llm[report]") from error

    L, H, T = maps.shape[:3]
    if len(tokens) != T:
        raise ValueError(f"the number of labels ({len(tokens)}) must be that of the tokens ({T})")
    chosen = [(layer, _checked("head", heads, H)) for layer in _checked("layer", layers, L)]
    side = max(_CELL * T, _MIN_MAP)
    margin = _GAP + _LETTER * max(map(len, tokens))  # on the left and on top of each map
    count = len(chosen[0][1]) if chosen else 0
    most = max(int((_PAGE - _GAP - _COLOR_BAR) / (margin + side)), 1)
    columns = math.ceil(count / math.ceil(count / most)) if count else 1  # rows of about equal length
    rows = [(layer, row[i : i + columns]) for layer, row in chosen for i in range(0, count, columns)]
    width = columns * (margin + side) + _GAP + _COLOR_BAR
    height = len(rows) * (margin + side) + _GAP
    if width * height > _MAX_AREA:
        raise ValueError(
            f"a picture of {len(chosen)} layers of {count} heads on {T} tokens ({width * height:,.0f} square inches) "
            f"must have at most {_MAX_AREA:,.0f}: choose fewer layers or heads, or a shorter text"
        )
    figure = NotebookFigure(figsize=(width, height))

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    scale = PowerNorm(_GAMMA, 0.0, 1.0)
    later = np.triu(np.ones((T, T), bool), 1)
    for i, (layer, row) in enumerate(rows):
        for j, head in enumerate(row):
            axes = place(margin + j * (margin + side), margin + i * (margin + side), side, side)
            axes.imshow(np.ma.masked_array(maps[layer, head], later), cmap=_COLORS, norm=scale)
            axes.text(0.97, 0.97, f"layer {layer + 1}\nhead {head + 1}", ha="right", va="top", transform=axes.transAxes)
            _label(axes, tokens)
    bar = place(width - _COLOR_BAR, margin, 0.14, min(side, 3.0))
    figure.colorbar(ScalarMappable(scale, _COLORS), cax=bar, ticks=[0.0, 0.02, 0.1, 0.25, 0.5, 1.0])
    return figure


def _checked(kind: str, numbers: Sequence[int] | None, count: int) -> list[int]:
    if numbers is None:
        return list(range(count))
    for number in numbers:
        if not 0 <= number < count:
            raise ValueError(f"{kind} ({number}) must be from 0 to {count - 1} for this model")
    return list(numbers)


def _label(axes: Axes, tokens: Sequence[str]) -> None:
    """Label the columns and rows of a map with the tokens."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(tokens)), tokens, fontsize=_FONT, fontfamily="monospace")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    if max(map(len, tokens)) > 1:
        axes.tick_params(axis="x", rotation=90)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
