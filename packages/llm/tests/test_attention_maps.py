"""Attention maps: the weights, and the picture."""

import math
from typing import Any

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, attention_maps, plot_attention

SHAPES = {
    "gpt2": LanguageModelConfig(vocab_size=20, context_length=12, num_layers=2, num_heads=2, embed_dim=8),
    "grouped": LanguageModelConfig(
        vocab_size=20,
        context_length=12,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        embed_dim=16,
        norm="rms",
        position="rotary",
        mlp="swiglu",
        qk_norm=True,
    ),
}


def small(shape: str) -> LanguageModel:
    return LanguageModel(SHAPES[shape], rng=np.random.default_rng(0)).eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_of_each_position_sum_to_one_and_are_causal(shape: str) -> None:
    model = small(shape)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    maps = attention_maps(model, np.random.default_rng(1).integers(0, 20, 7))
    assert maps.shape == (2, model.config.num_heads, 7, 7)
    np.testing.assert_allclose(maps.sum(axis=-1), 1.0, rtol=1e-5)
    assert not np.triu(maps, 1).any()
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_second_layer_depends_on_the_first(shape: str) -> None:
    model = small(shape)
    ids = np.asarray([3, 1, 4, 1, 5])
    maps = attention_maps(model, ids)
    model.transformer.blocks[0].mlp = lambda x: x * 3.0
    changed = attention_maps(model, ids)
    np.testing.assert_array_equal(maps[0], changed[0])
    assert not np.allclose(maps[1], changed[1])


def test_a_head_that_compares_tokens_attends_to_equal_tokens() -> None:
    model = small("gpt2")
    C = model.config.embed_dim
    model.embedding.weight.data[:8] = 10 * np.eye(8)
    assert model.transformer.position is not None
    model.transformer.position.weight.data.fill(0)
    attention = model.transformer.blocks[0].attention
    state = dict(attention.named_parameters())  # type: ignore[attr-defined]  # a block knows only that it can be called
    state["qkv_proj.weight"].data[: 2 * C] = np.tile(3 * np.eye(C), (2, 1))
    maps = attention_maps(model, np.asarray([0, 1, 2, 0, 1]))[0]
    np.testing.assert_allclose(maps[0, 3], [0.5, 0, 0, 0.5, 0], atol=1e-3)
    np.testing.assert_allclose(maps[0, 4], [0, 0.5, 0, 0, 0.5], atol=1e-3)


@pytest.mark.parametrize("count", [0, 13])
def test_a_text_must_fit_the_context(count: int) -> None:
    with pytest.raises(ValueError, match=rf"the number of tokens \({count}\) must be from 1 to 12"):
        attention_maps(small("gpt2"), np.zeros(count, np.int64))


def test_the_picture_has_a_map_for_each_chosen_head() -> None:
    maps = attention_maps(small("grouped"), np.arange(5))
    figure = plot_attention(maps, ["a", "bc", "d", "e", "f"])
    assert len(figure.axes) == 2 * 4 + 1  # and the color bar
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_xticklabels()] == ["a", "bc", "d", "e", "f"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "bc", "d", "e", "f"]
    chosen = plot_attention(maps, list("abcde"), layers=[1], heads=[3, 0])
    assert [axes.texts[0].get_text() for axes in chosen.axes[:2]] == ["layer 2\nhead 4", "layer 2\nhead 1"]
    (image,) = chosen.axes[0].get_images()
    np.testing.assert_array_equal(np.ma.filled(np.ma.masked_array(image.get_array()), 0), maps[1, 3])


@pytest.mark.parametrize(("heads", "tokens", "columns"), [(4, 24, 2), (12, 24, 2), (4, 5, 4), (7, 5, 4), (1, 60, 1)])
def test_a_row_has_as_many_maps_as_fit_on_a_page(heads: int, tokens: int, columns: int) -> None:
    figure = plot_attention(np.ones((2, heads, tokens, tokens)), ["a"] * tokens)
    tops = [round(axes.get_position().y1, 6) for axes in figure.axes[:-1]]
    assert tops.count(max(tops)) == columns
    assert len(set(tops)) == 2 * math.ceil(heads / columns)
    assert figure.get_size_inches()[0] < 10.5 or columns == 1


def test_a_notebook_shows_the_picture() -> None:
    figure: Any = plot_attention(np.ones((1, 1, 3, 3)), ["a", "b", "c"])
    assert figure._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_picture_that_cannot_be_drawn_is_refused() -> None:
    maps = np.ones((2, 2, 3, 3))
    with pytest.raises(ValueError, match=r"the number of labels \(2\) must be that of the tokens \(3\)"):
        plot_attention(maps, ["a", "b"])
    with pytest.raises(ValueError, match=r"head \(2\) must be from 0 to 1"):
        plot_attention(maps, ["a", "b", "c"], heads=[2])
    with pytest.raises(ValueError, match=r"choose fewer layers or heads, or a shorter text"):
        plot_attention(np.ones((1, 1, 1000, 1000)), ["a"] * 1000)
