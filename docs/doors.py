"""The doors of the four packages, and what stands behind each: what the API reference is made of.

A door is a module that users import from. What it offers is its `__all__`; most of that is defined in modules behind it,
and the reference groups the names by these rooms, under the sentences with which each room introduces itself.
"""

from importlib import import_module
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.builders import Builder

DOORS = [
    "axone.autograd",
    "axone.autograd.optim",
    "axone.nn",
    "axone.nn.functional",
]


def rooms(door: str) -> list[tuple[str, list[str]]]:
    """Return the modules behind a door with the names that each defines: the door itself first, then by name."""
    names: dict[str, list[str]] = {}
    module = import_module(door)
    for name in module.__all__:
        value = getattr(module, name)
        if not isinstance(value, ModuleType):
            names.setdefault(getattr(value, "__module__", door), []).append(name)
    return sorted(names.items(), key=lambda room: (room[0] != door, room[0]))


def _bring_home(_app: Sphinx, builder: Builder) -> None:
    """Let the coverage builder see what the doors offer: it counts only what is defined in a module itself."""
    if builder.name == "coverage":
        for door in map(import_module, DOORS):
            for name in door.__all__:
                value = getattr(door, name)
                if callable(value) and getattr(value, "__module__", "").startswith("axone."):
                    value.__module__ = door.__name__


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("write-started", _bring_home)
    return {"parallel_read_safe": True}
