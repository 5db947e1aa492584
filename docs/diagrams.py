"""Sphinx extension: the diagrams of the pages, drawn from the code and the figures when the pages are built.

The picture of the layers follows the import contracts of pyproject.toml, which CI checks, and the docstrings of the packages.
The picture of the data flow names functions, each of which must exist. The bars of the speed page are those of its table.
"""

import csv
import textwrap
import tomllib
from base64 import b64encode
from html import escape
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from pkgutil import iter_modules

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from axone.autograd import Drawing, Value, draw

HERE = Path(__file__).parent
WIDTH, GAP, PADDING, LINE = 760, 10, 10, 15  # pixels
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1b1f24; }
.name { font: 600 13px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.call { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #136f79; text-anchor: middle; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
rect { fill: #fff; stroke: #8a939d; }
.package { fill: #e8f6f7; stroke: #1d9aa8; }
.apps { fill: #fdf3e1; stroke: #c07f16; }
.bar { fill: #1d9aa8; stroke: none; }
path { fill: none; stroke: #8a939d; }
.head { fill: #8a939d; stroke: none; }
.one { stroke: #f0883e; stroke-width: 2; }
"""
Flow = list[tuple[str, str, str]]  # data, the call that makes it from the box on the left, and where that is defined
FLOWS: Flow = [
    ("text", "", ""),
    ("ids (N,)", "encode", "axone.tokenizer.Tokenizer.encode"),
    ("token file", "TokenDataset", "axone.llm.TokenDataset"),
    ("ids (B, T)", "sampler", "axone.llm.data.sampler"),
    ("ids (B, T)", "", ""),
    ("logits (B, T, V)", "model", "axone.llm.LanguageModel"),
    ("loss", "cross_entropy", "axone.llm.cross_entropy"),
    ("gradients", "backward", "axone.autograd.Tensor.backward"),
    ("weights", "step", "axone.autograd.optim.AdamW.step"),
    ("model folder", "", ""),
    ("model, tokenizer", "load", "axone.llm.load"),
    ("new ids", "generate", "axone.llm.generate"),
    ("text", "decode", "axone.tokenizer.Tokenizer.decode"),
]


def headline(module: str) -> str:
    """Return the first sentence of a module's docstring."""
    text = cleandoc(import_module(module).__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return text.split(". ")[0].rstrip(".").replace("`", "")


def svg(height: float, parts: list[str]) -> str:
    """Return a picture of the full width."""
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def text_at(x: float, y: float, text: str, kind: str = "") -> str:
    """Return one line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


def rectangle(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    """Return a box with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>'


def arrow(x: float, y: float, end: float) -> str:
    """Return an arrow to the right."""
    return f'<path d="M{x:g} {y:g}H{end - 6:g}"/><path class="head" d="M{end - 7:g} {y - 4:g}L{end:g} {y:g}L{end - 7:g} {y + 4:g}z"/>'


def row_of_boxes(
    x: float, y: float, width: float, boxes: list[tuple[str, str]], kind: str = ""
) -> tuple[list[str], float]:
    """Return boxes side by side, each with a name and a wrapped description, and their height."""
    each = (width - GAP * (len(boxes) - 1)) / len(boxes)
    wrapped = [textwrap.wrap(description, max(int((each - 2 * PADDING) / 6.2), 12)) for _, description in boxes]
    height = 2 * PADDING + LINE * (1 + max(map(len, wrapped)))
    parts = []
    for number, ((name, _), lines) in enumerate(zip(boxes, wrapped, strict=True)):
        left = x + number * (each + GAP)
        parts += [rectangle(left, y, each, height, kind), text_at(left + PADDING, y + PADDING + 11, name, "name")]
        parts += [text_at(left + PADDING, y + PADDING + 11 + LINE * (i + 1), line) for i, line in enumerate(lines)]
    return parts, height


def contract(name: str) -> list[list[str]]:
    """Return the rows of a layers contract, the highest first."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (found,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["name"] == name)
    return [[part.strip() for part in row.split("|")] for row in found["layers"]]


def draw_layers() -> str:
    """Draw the command, the packages and the subpackages of axone.llm, in the order of the import contracts."""
    rows = contract("subpackages of axone.llm point down")
    missing = {module.name for module in iter_modules(import_module("axone.llm").__path__)} - {
        n for row in rows for n in row
    }
    if missing:
        raise ExtensionError(f"the contract on subpackages of axone.llm lacks {', '.join(sorted(missing))}")
    (top_layer,), _, *layers_below = contract("layers point down")
    apps, y = row_of_boxes(0.5, 0.5, WIDTH - 1, [(top_layer, headline(top_layer))], "apps")
    y += GAP
    top, y = y, y + PADDING + LINE + 8
    inner: list[str] = []
    for row in rows:
        boxes = [(name, headline(f"axone.llm.{name}")) for name in row]
        parts, height = row_of_boxes(PADDING, y, WIDTH - 2 * PADDING, boxes)
        inner, y = inner + parts, y + height + GAP
    llm = [
        rectangle(0.5, top, WIDTH - 1, y - top, "package"),
        text_at(PADDING, top + PADDING + 11, "axone.llm", "name"),
        *inner,
    ]
    y += GAP
    lower: list[str] = []
    for packages in layers_below:
        boxes = [(name, headline(name)) for name in packages]
        width = WIDTH - 1 if len(boxes) > 1 else (WIDTH - 1 - GAP) / 2  # the tokenizer does not import what is below it
        parts, height = row_of_boxes(0.5, y, width, boxes, "package")
        lower, y = lower + parts, y + height + GAP
    return svg(y, [*apps, *llm, *lower])


def resolve(name: str) -> object:
    """Return the object of a dotted name; fail if it no longer exists."""
    module, _, attributes = name, "", list[str]()
    while True:
        try:
            found: object = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            attributes.insert(0, last)
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def draw_data_flow() -> str:
    """Draw the way from text to weights and back to text: boxes are data, arrows are calls."""
    box, between, height = 112, 49.5, 34
    parts, x, y = [], 0.5, -40.0
    for data, call, name in FLOWS:
        if call:
            resolve(name)
            parts += [arrow(x, y + height / 2, x + between), text_at(x + between / 2, y - 6, call, "call")]
            x += between
        else:
            x, y = 0.5, y + 64
        parts += [rectangle(x, y, box, height), text_at(x + box / 2, y + 21, data, "middle")]
        x += box
    return svg(y + height + 6, parts)


def draw_speed() -> str:
    """Draw the ratios of the table of speed as bars; the line is at 1, the time of Axone."""
    rows = list(csv.DictReader((HERE / "guide/speed.csv").read_text(encoding="utf-8").splitlines()))
    longest = max(float(row["ratio"]) for row in rows)
    left, unit, parts = 330, (WIDTH - 330 - 50) / longest, []
    for number, row in enumerate(rows):
        y, ratio = 6 + 24 * number, float(row["ratio"])
        parts += [
            text_at(left - 8, y + 13, row["work"], "end"),
            f'<rect x="{left}" y="{y}" width="{ratio * unit:g}" height="18" class="bar"/>',
            text_at(left + ratio * unit + 6, y + 13, row["ratio"]),
        ]
    bottom = 6 + 24 * len(rows)
    parts += [
        f'<path class="one" d="M{left + unit:g} 2V{bottom}"/>',
        text_at(left + unit, bottom + 14, "Axone = 1", "middle"),
    ]
    return svg(bottom + 22, parts)


def draw_neuron() -> str:
    """Draw the neuron of the start page."""
    w1, x1, w2, x2, b = map(Value, (0.5, 2.0, -1.0, 0.5, 0.25))
    output = (w1 * x1 + w2 * x2 + b).tanh()
    output.backward()
    return draw(output, names={"w1": w1, "x1": x1, "w2": w2, "x2": x2, "b": b}).svg


def _write(app: Sphinx) -> None:
    """Write all diagrams into docs/_drawings."""
    folder = Path(app.srcdir, "_drawings")
    folder.mkdir(exist_ok=True)
    for name, function in {
        "neuron": draw_neuron,
        "layers": draw_layers,
        "data_flow": draw_data_flow,
        "speed": draw_speed,
    }.items():
        (folder / f"{name}.svg").write_text(function(), encoding="utf-8")


def _as_html(drawing: Drawing) -> str:
    """Return a drawing as an image: sphinx-gallery shows HTML, not SVG, and an image keeps its style to itself."""
    data = b64encode(drawing.svg.encode()).decode()
    return f'<img class="axone-drawing" alt="a graph" src="data:image/svg+xml;base64,{data}">'


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    Drawing._repr_html_ = _as_html
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
