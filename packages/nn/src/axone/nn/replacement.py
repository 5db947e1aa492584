"""Replacement of modules inside another: adapters and int8 layers take the place of linear ones."""

from __future__ import annotations

from collections.abc import Mapping

from axone.nn.module import Module


def replace_modules(module: Module, replacements: Mapping[str, Module]) -> None:
    """Put other modules in place of some inside a module.

    Parameters
    ----------
    module : Module
    replacements : mapping of str to Module
        By the path of the module that each replaces, as in `Module.named_modules`; it takes over whether that one is in
        training. What holds it must be a module: it may be an attribute, not an item of a list.

    Raises
    ------
    KeyError
        If there is no such path.
    """
    modules = dict(module.named_modules())
    for path, replacement in replacements.items():
        owner, _, name = path.rpartition(".")
        setattr(modules[owner], name, replacement.train(modules[path].training))
