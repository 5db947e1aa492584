"""Pictures of graphs, as SVG and in pure Python: what was computed from what, with values, shapes and gradients.

The layout is the usual one for such graphs, in three steps: every node gets a column, one right of its last input; the
nodes of a column are ordered by the mean height of their neighbours, swept back and forth a few times, so that few
edges cross; and they are moved towards that height as far as their neighbours in the column allow.

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
_STYLE = {  # by selector, each below the class of the picture, so that a page that shows it inline keeps its own
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

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path-like
            By custom it ends in ``.svg``.
        """
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib alone would take a tenth of our import
            file.write(self.svg)


def draw(output: Value | Tensor, *, names: Mapping[str, object] | None = None) -> Drawing:
    """Draw what a Value or a Tensor was computed from, the inputs on the left, the output on the right.

    Parameters
    ----------
    output : Value or Tensor
        A Value is drawn with number and gradient of every node. A Tensor is drawn with shapes, and before its backward,
        for that consumes the graph.
    names : mapping of str to Value or Tensor, optional
        What to call them in the picture. All else in it is passed over, so ``vars()`` and
        ``dict(model.named_parameters())`` will do.

    Returns
    -------
    Drawing

    Raises
    ------
    ValueError
        If a backward has been through the Tensor's graph.
    TypeError
        If `output` is neither, or `names` holds the names as values instead of keys.

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
        raise TypeError(f"draw needs a Value or a Tensor, and got {type(output).__name__}")
    called: dict[Value | Node | Leaf, str] = {}
    for name, named in (names or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"names must lead from names to what they name, and {name!r} is no name: turn them round")
        if isinstance(named, Value | Tensor):
            called.setdefault(_in_graph(named), name)
    if isinstance(output, Value):
        return Drawing(_svg(_boxes(output, lambda value: value._inputs, lambda value: _value_lines(value, called))))
    return Drawing(
        _svg(_boxes(output._node or leaf_of(output), _tensor_inputs, lambda place: _tensor_lines(place, called)))
    )


def _in_graph(named: Value | Tensor) -> Value | Node | Leaf:
    """Return what stands for a Value or a Tensor in its graph."""
    return named if isinstance(named, Value) else named._node or leaf_of(named)


def _title(name: str | None, operation: str, otherwise: str) -> str:
    """Return a box's first line: its name, the operation it comes from, or both."""
    if name is None:
        return operation or otherwise
    return f"{name} = {operation}" if operation else name


def _value_lines(value: Value, called: Mapping[Value | Node | Leaf, str]) -> list[str]:
    title = _title(called.get(value), value._operation, "value")
    return [title, f"data {value.data:.4g}", f"grad {value.grad:.4g}"]


def _tensor_inputs(place: Node | Leaf) -> Sequence[Node | Leaf]:
    if isinstance(place, Leaf):
        return ()
    if place.consumed:
        raise ValueError(
            f"backward consumes the graph, and {place.name!r} of shape {place.shape} has been passed: draw it before"
        )
    return [source for source in place.inputs if source is not None]


def _tensor_lines(place: Node | Leaf, called: Mapping[Value | Node | Leaf, str]) -> list[str]:
    name = called.get(place)
    if isinstance(place, Leaf):
        return [_title(name, "", "parameter" if place.wanted else "constant"), str(place.shape)]
    return [_title(name, place.name, ""), str(place.shape)]


class _Box:
    """A node of the picture."""

    def __init__(self, lines: list[str], inputs: list[_Box], column: int) -> None:
        self.lines = lines  # none for the bend of an edge
        self.inputs = inputs
        self.users: list[_Box] = []
        self.column = column
        self.x = 0.0
        self.y = 0.0  # of the middle
        self.width = max(map(len, lines)) * _CHARACTER + 2 * _PADDING if lines else 0.0
        self.height = len(lines) * _LINE + _PADDING if lines else 0.0


def _boxes(output: T, inputs_of: Callable[[T], Sequence[T]], lines_of: Callable[[T], list[str]]) -> list[_Box]:
    """Return a box for each node of a graph, each after its inputs, and the output last."""
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
    for box in reversed(list(boxes.values())):  # right before its first use, not at the far left
        if box.users:
            box.column = min(user.column for user in box.users) - 1
    return list(boxes.values())


def _with_bends(boxes: Sequence[_Box]) -> list[_Box]:
    """Return the boxes and a bend in every column that an edge passes, so that it takes its own way there."""
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


def _place(boxes: Sequence[_Box]) -> None:
    """Give every box its place."""
    columns: list[list[_Box]] = [[] for _ in range(1 + max(box.column for box in boxes))]
    for box in boxes:
        columns[box.column].append(box)
    x = _MARGIN
    for column in columns:
        width = max(box.width for box in column)
        _stack(column, [0.0] * len(column))
        for box in column:
            box.width = box.width or width  # a bend passes the whole column
            box.x = x + (width - box.width) / 2
        x += width + _COLUMN_GAP
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            wishes = {box: _mean([near.y for near in (box.inputs if forward else box.users)], box.y) for box in column}
            column.sort(key=wishes.__getitem__)
            _stack(column, [wishes[box] for box in column])
    top = min(box.y - box.height / 2 for box in boxes)
    for box in boxes:
        box.y += _MARGIN - top


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _stack(column: Sequence[_Box], wishes: Sequence[float]) -> None:
    """Put the boxes of a column below each other, as near to the heights that they wish as the order allows.

    Boxes that would overlap become a block, which stands where it is best for them together.
    """
    blocks: list[tuple[list[_Box], float]] = []  # the boxes and the middle of the block
    for box, wish in zip(column, wishes):
        block, middle = [box], wish
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
    _place(boxes)
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
    """Return a text as XML writes it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
