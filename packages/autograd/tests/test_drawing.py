"""Pictures of graphs: complete, without overlaps, and well-formed SVG."""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from axone.autograd import Tensor, Value, draw, softmax

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: str) -> list[tuple[str, list[str], tuple[float, float, float, float]]]:
    """Return kind, lines and rectangle of every box in a picture."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):  # noqa: S314 - drawn by this test
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        x, y, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
        lines = [text.text or "" for text in group.iter(f"{SVG}text")]
        found.append((group.get("class", ""), lines, (x, y, width, height)))
    return found


def scalar_graph(layers: int) -> Value:
    rng = np.random.default_rng(0)
    values = [Value(1.0), Value(-2.0)]
    for _ in range(layers):
        values = [sum((w * x for w, x in zip(map(Value, rng.normal(size=9)), values)), Value(0.5)) for _ in range(4)]
    return values[0].tanh()


def test_a_value_is_drawn_with_numbers_and_gradients() -> None:
    x = Value(2.0)
    y = (x * 3.0) ** 2
    y.backward()
    drawn = {(kind, *lines) for kind, lines, _ in boxes(draw(y).svg)}
    assert drawn == {
        ("leaf", "value", "data 2", "grad 36"),
        ("leaf", "value", "data 3", "grad 24"),
        ("operation", "*", "data 6", "grad 12"),
        ("output", "** 2", "data 36", "grad 1"),
    }


def test_repr_shows_the_size_and_the_way_to_write_a_drawing() -> None:
    drawing = draw(Value(2.0))
    assert repr(drawing) == "Drawing(83 x 80 pixels: save(path) writes it)"
    assert 'width="83" height="80"' in drawing.svg


def test_a_tensor_is_drawn_with_shapes() -> None:
    x, w = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 4)), requires_grad=True)
    y = softmax(x @ w)
    drawn = [(kind, *lines) for kind, lines, _ in boxes(draw(y).svg)]
    assert sorted(drawn) == [
        ("leaf", "constant", "(2, 3)"),
        ("leaf", "parameter", "(3, 4)"),
        ("operation", "matmul", "(2, 4)"),
        ("output", "softmax", "(2, 4)"),
    ]
    assert [lines for _, lines, _ in boxes(draw(w).svg)] == [["parameter", "(3, 4)"]]


def test_named_values_are_labelled() -> None:
    x, w = Value(2.0), Value(3.0)
    product = x * w
    y = (product + 1.0).tanh()
    names = {"x": x, "w": w, "product": product, "y": y, "elsewhere": Value(0.0), "number": 3.0}
    titles = [lines[0] for _, lines, _ in boxes(draw(y, names=names).svg)]
    assert sorted(titles) == ["+", "product = *", "value", "w", "x", "y = tanh"]


def test_named_tensors_are_labelled() -> None:
    x, w = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 4)), requires_grad=True)
    y = softmax(x @ w)
    titles = [lines[0] for _, lines, _ in boxes(draw(y, names={"w": w, "x<y>": x, "y": y}).svg)]
    assert sorted(titles) == ["matmul", "w", "x<y>", "y = softmax"]


def test_names_as_values_instead_of_keys_are_refused() -> None:
    x = Value(2.0)
    with pytest.raises(TypeError, match=r"names must map strings .* swap keys and values"):
        draw(x, names={x: "x"})  # type: ignore[dict-item]  # what a user may try


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_boxes_do_not_overlap(layers: int) -> None:
    svg = draw(scalar_graph(layers)).svg
    drawn = [rectangle for _, _, rectangle in boxes(svg)]
    assert len(drawn) >= 10 * layers
    width, height = (float(ET.fromstring(svg).get(name, "nan")) for name in ("width", "height"))  # noqa: S314 - drawn by this test
    for i, (x, y, w, h) in enumerate(drawn):
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        for x2, y2, w2, h2 in drawn[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_every_input_has_an_arrow() -> None:
    x = Value(1.0)
    y = ((x + 2.0) * x) + x
    arrows = [path for path in ET.fromstring(draw(y).svg).iter(f"{SVG}path") if path.get("marker-end")]  # noqa: S314 - drawn by this test
    assert len(arrows) == 6


def test_a_deep_graph_is_drawn() -> None:
    x = y = Value(1.0)
    for _ in range(1500):
        y = -y
    assert len(boxes(draw(y).svg)) == 1501
    assert x.grad == 0


def test_saving_and_showing(tmp_path: Path) -> None:
    drawing = draw(Value(1.0) + 2.0)
    drawing.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == drawing.svg == drawing._repr_svg_()


def test_a_consumed_graph_and_other_types_are_refused() -> None:
    y = (Tensor([1.0], requires_grad=True) * 2).sum()
    y.backward()
    with pytest.raises(ValueError, match=r"backward has already consumed 'sum' of shape \(\)"):
        draw(y)
    with pytest.raises(TypeError, match="draw needs a Value or a Tensor, got float"):
        draw(1.0)  # type: ignore[arg-type]  # the misuse under test


def test_the_style_is_scoped_to_the_picture() -> None:
    svg = ET.fromstring(draw(Value(1.0)).svg)  # noqa: S314 - drawn by this test
    rules = (svg.findtext(f"{SVG}style") or "").split("}")[:-1]
    assert len(rules) > 5
    assert all(rule.startswith(f".{svg.get('class')} ") for rule in rules)
