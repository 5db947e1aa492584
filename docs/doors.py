"""The doors of the four packages, and what stands behind each: what the API reference is made of.

A door is a module that users import from. What it offers is its `__all__`; most of that is defined in modules behind it,
and the reference groups the names by these rooms, under the sentences with which each room introduces itself.
"""

import ast
import sys
from dataclasses import dataclass, field
from importlib import import_module
from inspect import cleandoc, getsource, isclass, isroutine
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.util import logging

DOORS = [
    "axone.autograd",
    "axone.autograd.optim",
    "axone.nn",
    "axone.nn.functional",
    "axone.tokenizer",
    "axone.llm",
    "axone.llm.report",
]
FIRST = ["value", "tensor", "module", "linear", "protocol", "char", "config", "model", "data", "trainer"]
AWAITED = {"PRESETS"}


@dataclass
class Room:
    """A module behind a door, and what it defines of the door's names."""

    objects: list[str] = field(default_factory=list)
    data: list[tuple[str, str, str]] = field(default_factory=list)  # name, definition where it is a type, docstring


def rooms(door: str) -> list[tuple[str, Room]]:
    """Return the rooms behind a door with their names: its own first, then what one reads first, then by name."""
    found: dict[str, Room] = {}
    module = import_module(door)
    for name in module.__all__:
        value = getattr(module, name)
        if isclass(value) or isroutine(value):
            found.setdefault(value.__module__, Room()).objects.append(name)
        elif not isinstance(value, ModuleType):
            room, definition, text = _definition(door, name)
            found.setdefault(room, Room()).data.append((name, definition, text))

    def order(room: tuple[str, Room]) -> tuple[bool, int, str]:
        last = room[0].rpartition(".")[2]
        return room[0] != door, FIRST.index(last) if last in FIRST else len(FIRST), room[0]

    return sorted(found.items(), key=order)


def classes() -> dict[str, str]:
    """Return the full name of each class that a door offers, so that types in docstrings become links."""
    return {
        name: f"{door}.{name}"
        for door in reversed(DOORS)
        for name in import_module(door).__all__
        if isclass(getattr(import_module(door), name))
    }


def file_names() -> dict[str, str]:
    """Return another file name for the page of a function whose class differs only in case: some disks see one name."""
    both = classes().values()
    functions = {f"{door}.{name}" for door in DOORS for name in import_module(door).__all__} - set(both)
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
    if name not in AWAITED:
        logging.getLogger(__name__).warning("%s.%s has no docstring below its definition", door, name)
    return door, "", ""


def _bring_home(_app: Sphinx, builder: Builder) -> None:
    """Let the coverage builder see what the doors offer: it counts only what is defined in a module itself."""
    if builder.name == "coverage":
        for door in map(import_module, DOORS):
            for name in door.__all__:
                value = getattr(door, name)
                if isclass(value) or isroutine(value):
                    value.__module__ = door.__name__


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("write-started", _bring_home)
    return {"parallel_read_safe": True}
