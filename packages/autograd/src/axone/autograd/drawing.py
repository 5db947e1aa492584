"""Pictures of graphs as SVG, in pure Python: operations and leaves with values, shapes and gradients.

The layout has three steps, as in Sugiyama's method: every node gets a column, one to the right of its last input; the
nodes of a column are sorted by the mean height of their neighbours, in several forward and backward sweeps, so that few
edges cross; then each node moves towards that height as far as the others in its column allow.

References
----------
.. [1] K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System Structures",
   https://doi.org/10.1109/TSMC.1981.4308636
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TypeVar

from axone.autograd.tape import Leaf, Node
from axone.autograd.tensor import Tensor, leaf_of
from axone.autograd.value import Value

T = TypeVar("T")

_CHARACTER, _LINE = 7.2, 16.0  # of the font, in pixels
_PADDING, _COLUMN_GAP, _ROW_GAP, _MARGIN = 8.0, 44.0, 14.0, 12.0
_SWEEPS = 12
_STYLE = {  # by selector, each inside the class of the picture, so that an inline picture does not change its page
    "text": "text-anchor:middle;font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1b1f24",
    ".name": "font-weight:600",
    ".leaf rect": "fill:#e8f1fb;stroke:#3b73b9",
    ".operation rect": "fill:#fff;stroke:#8a939d",
    ".output rect": "fill:#fdf3e1;stroke:#c07f16",
    "path": "fill:none;stroke:#8a939d",
    ".head": "fill:#8a939d;stroke:none",
}
_HEAD = (
    f"<style>{''.join(f'.axone-graph {selector}{{{style}}}' for selector, style in _STYLE.items())}</style>"
    '<defs><marker id="axone-head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
)


class Drawing:
    """An SVG picture: shown inline by notebooks, or saved to a file.

    Attributes
    ----------
    svg : str
        The document.
    """

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        width, height = self.svg.split('"', 8)[5:8:2]
        return f"Drawing({width} x {height} pixels: save(path) writes it)"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path-like
            Usually ends in ``.svg``.
        """
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - importing pathlib would take a tenth of our import time
            file.write(self.svg)


def draw(output: Value | Tensor, *, names: Mapping[str, object] | None = None) -> Drawing:
    """Draw the graph of a Value or a Tensor, from the leaves on the left to the output on the right.

    Parameters
    ----------
    output : Value or Tensor
        The picture of a Value shows the number and the gradient of every node. The picture of a Tensor shows shapes;
        draw it before `backward`, which consumes the graph.
    names : mapping of str to Value or Tensor, optional
        Names for nodes in the picture. Other entries are ignored, so you may pass ``vars()`` or
        ``dict(model.named_parameters())``.

    Returns
    -------
    Drawing

    Raises
    ------
    ValueError
        If a backward pass has consumed the Tensor's graph.
    TypeError
        If `output` is neither a Value nor a Tensor, or `names` holds the names as values instead of keys.

    Examples
    --------
    >>> from axone.autograd import Value, draw
    >>> x = Value(2.0)
    >>> y = (x * 3.0).tanh()
    >>> y.backward()
    >>> draw(y, names={"x": x}).svg[:25]
    '<svg xmlns="http://www.w3'
    """
    if not isinstance(output, Value | Tensor):
        raise TypeError(f"draw needs a Value or a Tensor, got {type(output).__name__}")
    name_of: dict[Value | Node | Leaf, str] = {}
    for name, named in (names or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"names must map strings to Values or Tensors, got the key {name!r}: swap keys and values")
        if isinstance(named, Value | Tensor):
            name_of.setdefault(_vertex(named), name)
    if isinstance(output, Value):
        return Drawing(_svg(_boxes(output, lambda value: value._inputs, lambda value: _value_lines(value, name_of))))
    root = output._node or leaf_of(output)
    return Drawing(_svg(_boxes(root, _tensor_inputs, lambda vertex: _tensor_lines(vertex, name_of))))


def _vertex(named: Value | Tensor) -> Value | Node | Leaf:
    """Return the node that represents a Value or a Tensor in its graph."""
    return named if isinstance(named, Value) else named._node or leaf_of(named)


def _title(name: str | None, operation: str, default: str) -> str:
    """Return a box's first line: its name, its operation, or both; a default for a leaf without a name."""
    if name is None:
        return operation or default
    return f"{name} = {operation}" if operation else name


def _value_lines(value: Value, name_of: Mapping[Value | Node | Leaf, str]) -> list[str]:
    title = _title(name_of.get(value), value._operation, "value")
    return [title, f"data {value.data:.4g}", f"grad {value.grad:.4g}"]


def _tensor_inputs(vertex: Node | Leaf) -> Sequence[Node | Leaf]:
    if isinstance(vertex, Leaf):
        return ()
    if vertex.consumed:
        raise ValueError(
            f"backward has already consumed {vertex.name!r} of shape {vertex.shape}: draw the graph before backward"
        )
    return [source for source in vertex.inputs if source is not None]


def _tensor_lines(vertex: Node | Leaf, name_of: Mapping[Value | Node | Leaf, str]) -> list[str]:
    name = name_of.get(vertex)
    if isinstance(vertex, Leaf):
        return [_title(name, "", "parameter" if vertex.requires_grad else "constant"), str(vertex.shape)]
    return [_title(name, vertex.name, ""), str(vertex.shape)]


class _Box:
    """A node in the picture, or a bend of an edge, which has no lines of text."""

    def __init__(self, lines: list[str], inputs: list[_Box], column: int) -> None:
        self.lines = lines
        self.inputs = inputs
        self.users: list[_Box] = []
        self.column = column
        self.x = 0.0
        self.y = 0.0  # the middle
        self.width = max(map(len, lines)) * _CHARACTER + 2 * _PADDING if lines else 0.0
        self.height = len(lines) * _LINE + _PADDING if lines else 0.0


def _boxes(output: T, inputs_of: Callable[[T], Sequence[T]], lines_of: Callable[[T], list[str]]) -> list[_Box]:
    """Return a box for each node of a graph, in topological order, the output last."""
    boxes: dict[T, _Box] = {}
    stack = [output]
    while stack:
        node = stack[-1]
        waiting = [source for source in inputs_of(node) if source not in boxes]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        if node not in boxes:
            sources = [boxes[source] for source in dict.fromkeys(inputs_of(node))]
            column = 1 + max((source.column for source in sources), default=-1)
            boxes[node] = box = _Box(lines_of(node), sources, column)
            for source in sources:
                source.users.append(box)
    for box in reversed(list(boxes.values())):  # just left of its first use, not in the first column
        if box.users:
            box.column = min(user.column for user in box.users) - 1
    return list(boxes.values())


def _with_bends(boxes: Sequence[_Box]) -> list[_Box]:
    """Return the boxes, and a bend in every column that an edge crosses, so that it avoids the boxes there."""
    bends: list[_Box] = []
    for box in boxes:
        for user in list(box.users):
            previous = box
            for column in range(box.column + 1, user.column):
                bend = _Box([], [previous], column)
                previous.users = [bend if near is user else near for near in previous.users]
                bend.users.append(user)
                user.inputs = [bend if near is previous else near for near in user.inputs]
                bends.append(bend)
                previous = bend
    return [*bends, *boxes]


def _lay_out(boxes: Sequence[_Box]) -> None:
    """Set the position of every box."""
    columns: list[list[_Box]] = [[] for _ in range(1 + max(box.column for box in boxes))]
    for box in boxes:
        columns[box.column].append(box)
    x = _MARGIN
    for column in columns:
        width = max(box.width for box in column)
        _stack(column, [0.0] * len(column))
        for box in column:
            box.width = box.width or width  # a bend crosses the whole column
            box.x = x + (width - box.width) / 2
        x += width + _COLUMN_GAP
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            ideal = {box: _mean([near.y for near in (box.inputs if forward else box.users)], box.y) for box in column}
            column.sort(key=ideal.__getitem__)
            _stack(column, [ideal[box] for box in column])
    top = min(box.y - box.height / 2 for box in boxes)
    for box in boxes:
        box.y += _MARGIN - top


def _mean(numbers: Sequence[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _stack(column: Sequence[_Box], heights: Sequence[float]) -> None:
    """Arrange the boxes of a column in order, as near to their ideal heights as possible.

    Boxes that would overlap are merged into a block, centred at the mean of their heights.
    """
    blocks: list[tuple[list[_Box], float]] = []  # the boxes and the middle of the block
    for box, ideal in zip(column, heights):
        block, middle = [box], ideal
        while blocks and blocks[-1][1] + _extent(blocks[-1][0]) / 2 + _ROW_GAP > middle - _extent(block) / 2:
            above, height = blocks.pop()
            middle = (height * len(above) + middle * len(block)) / (len(above) + len(block))
            block = above + block
        blocks.append((block, middle))
    for block, middle in blocks:
        y = middle - _extent(block) / 2
        for box in block:
            box.y = y + box.height / 2
            y += box.height + _ROW_GAP


def _extent(block: Sequence[_Box]) -> float:
    return sum(box.height for box in block) + _ROW_GAP * (len(block) - 1)


def _svg(boxes: Sequence[_Box]) -> str:
    """Return the document."""
    boxes = _with_bends(boxes)
    _lay_out(boxes)
    width = max(box.x + box.width for box in boxes) + _MARGIN
    height = max(box.y + box.height / 2 for box in boxes) + _MARGIN
    edges = [_edge(source, box) for box in boxes for source in box.inputs]
    nodes = [_node(box, output=box is boxes[-1]) for box in boxes if box.lines]
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" class="axone-graph" {size}>'
    return "\n".join([opening, _HEAD, *edges, *nodes, "</svg>"])


def _edge(source: _Box, target: _Box) -> str:
    x1, y1, x2, y2 = source.x + source.width, source.y, target.x, target.y
    bend = max((x2 - x1) / 2, _COLUMN_GAP / 2)
    curve = f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    if target.lines:
        return f'<path d="{curve}" marker-end="url(#axone-head)"/>'
    return f'<path d="{curve}h{target.width:.1f}"/>'


def _node(box: _Box, *, output: bool) -> str:
    kind = "output" if output else "operation" if box.inputs else "leaf"
    top = box.y - box.height / 2
    middle, classes = box.x + box.width / 2, ["name"] + ["number"] * len(box.lines)
    texts = "".join(
        f'<text class="{name}" x="{middle:.1f}" y="{top + _LINE * (i + 1) - 2:.1f}">{_escaped(line)}</text>'
        for i, (name, line) in enumerate(zip(classes, box.lines))
    )
    rect = f'<rect x="{box.x:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="5"/>'
    return f'<g class="{kind}">{rect}{texts}</g>'


def _escaped(text: str) -> str:
    """Return a text with XML's special characters escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
