"""The doors of the four packages, and what stands behind each: what the API reference is made of.

A door is a module that users import from. What it offers is its `__all__`, or what it defines itself where it has none.
Most is defined in modules behind the door, and the reference groups the names by these rooms, under the sentences with
which each room introduces itself.
"""

import ast
import re
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from importlib import import_module
from inspect import cleandoc, getsource, isclass, isroutine
from pathlib import Path
from types import ModuleType

from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.util import logging

from axone.autograd import Drawing, Value, draw

DOORS = [
    "axone.autograd",
    "axone.autograd.optim",
    "axone.autograd.extend",
    "axone.autograd.testing",
    "axone.nn",
    "axone.nn.functional",
    "axone.nn.extend",
    "axone.nn.init",
    "axone.nn.scalar",
    "axone.tokenizer",
    "axone.llm",
    "axone.llm.training.loggers",
]
FIRST = ["value", "tensor", "module", "linear", "protocol", "char", "config", "model", "data", "trainer"]


@dataclass
class Room:
    """A module behind a door, and what it defines of the door's names."""

    objects: list[str] = field(default_factory=list)
    data: list[tuple[str, str, str]] = field(default_factory=list)  # name, definition where it is a type, docstring


def offered(door: str) -> dict[str, object]:
    """Return the names that a door offers, with what they stand for; no modules."""
    module = import_module(door)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == door]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    return {name: getattr(module, name) for name in names if not isinstance(getattr(module, name), ModuleType)}


def rooms(door: str) -> list[tuple[str, Room]]:
    """Return the rooms behind a door with their names: its own first, then what one reads first, then by name."""
    found: dict[str, Room] = {}
    for name, value in offered(door).items():
        if isclass(value) or isroutine(value):
            found.setdefault(value.__module__, Room()).objects.append(name)
        else:
            room, definition, text = _definition(door, name)
            found.setdefault(room, Room()).data.append((name, definition, text))

    def order(room: tuple[str, Room]) -> tuple[bool, int, str]:
        last = room[0].rpartition(".")[2]
        return room[0] != door, FIRST.index(last) if last in FIRST else len(FIRST), room[0]

    return sorted(found.items(), key=order)


def classes() -> dict[str, str]:
    """Return the full name of each class that a door offers, so that types in docstrings become links."""
    return {
        name: f"{door}.{name}" for door in reversed(DOORS) for name, value in offered(door).items() if isclass(value)
    }


def file_names() -> dict[str, str]:
    """Return another file name for the page of a function whose class differs only in case: some disks see one name."""
    both = classes().values()
    functions = {f"{door}.{name}" for door in DOORS for name in offered(door)} - set(both)
    return {name: f"{name}-function" for name in functions if name.lower() in {taken.lower() for taken in both}}


def _definition(door: str, name: str) -> tuple[str, str, str]:
    """Return where a constant or type alias is defined, what a type alias stands for, and the docstring below it."""
    layer = ".".join(door.split(".")[:2])
    for room in sorted(sys.modules):
        if room == layer or room.startswith(f"{layer}."):
            body = ast.parse(getsource(sys.modules[room])).body
            for statement, below in zip(body, [*body[1:], None], strict=True):
                match statement, below:
                    case (
                        ast.AnnAssign(ast.Name(found), ast.Name(kind), ast.expr() as value),
                        ast.Expr(ast.Constant(str(text))),
                    ) if found == name:
                        return room, ast.unparse(value) if kind == "TypeAlias" else "", cleandoc(text)
                    case ast.AnnAssign(ast.Name(found)) | ast.Assign([ast.Name(found)]), ast.Expr(
                        ast.Constant(str(text))
                    ) if found == name:
                        return room, "", cleandoc(text)
    logging.getLogger(__name__).warning("%s.%s has no docstring below its definition", door, name)
    return door, "", ""


def _bring_home(_app: Sphinx, builder: Builder) -> None:
    """Let the coverage builder see what the doors offer: it counts only what is defined in a module itself."""
    if builder.name == "coverage":
        for door in DOORS:
            for value in offered(door).values():
                if isclass(value) or isroutine(value):
                    value.__module__ = door


def _read(_app: Sphinx, what: str, _name: str, obj: object, _options: object, lines: list[str]) -> None:
    """Show the sources of its module with each name that lists none, and keep reST from misreading what is no markup."""
    if what in {"class", "exception", "function"} and "References" not in lines:
        sources = NumpyDocString(cleandoc(sys.modules[obj.__module__].__doc__ or ""))["References"]
        lines += ["", "References", "----------", *sources] if sources else []
    # An author's initial or a dimension at the start of a line begins no list, and the dot of a product ends no sentence.
    initial = re.compile(r"^(\s*(?:\.\. \[\d+\] )?)([A-Z]\.)(?= |$)")
    lines[:] = [initial.sub(r"\1\\\2", line).replace(" . ", " · ") for line in lines]


def _sign(_app: Sphinx, what: str, _name: str, obj: object, *_: object) -> tuple[str, None] | None:
    """Show a protocol without arguments: nobody constructs one."""
    return ("", None) if what == "class" and getattr(obj, "_is_protocol", False) else None


def _forget(app: Sphinx) -> None:
    """Remove the pages of names that are gone, which autosummary leaves behind."""
    names = {f"{door}.{name}" for door in DOORS for name in offered(door)}
    pages = {file_names().get(name, name) for name in names} | set(DOORS)
    for page in Path(app.srcdir, "api/generated").glob("*.rst"):
        if page.stem not in pages:
            page.unlink()


def _neuron(app: Sphinx) -> None:
    """Draw the neuron of the start page."""
    w1, x1, w2, x2, b = map(Value, (0.5, 2.0, -1.0, 0.5, 0.25))
    answer = (w1 * x1 + w2 * x2 + b).tanh()
    answer.backward()
    Path(app.srcdir, "gallery").mkdir(exist_ok=True)
    names = {"w1": w1, "x1": x1, "w2": w2, "x2": x2, "b": b}
    draw(answer, names=names).save(Path(app.srcdir, "gallery/neuron.svg"))


def _as_html(drawing: Drawing) -> str:
    """Return a picture as an image, whose style keeps to itself: sphinx-gallery shows what HTML represents, not SVG."""
    data = b64encode(drawing.svg.encode()).decode()
    return f'<img class="axone-drawing" alt="a graph" src="data:image/svg+xml;base64,{data}">'


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    Drawing._repr_html_ = _as_html
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", _forget)
    app.connect("builder-inited", _neuron)
    app.connect("autodoc-process-docstring", _read, priority=100)  # before numpydoc reads it
    app.connect("autodoc-process-signature", _sign, priority=900)  # after numpydoc
    app.connect("write-started", _bring_home)
    return {"parallel_read_safe": True}
