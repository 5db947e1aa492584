"""The public modules of axone.nn, and the names in them."""

from types import ModuleType

import pytest

import axone.nn
import axone.nn.extend

PUBLIC_MODULES = [axone.nn, axone.nn.functional, axone.nn.extend]


@pytest.mark.parametrize("module", [*PUBLIC_MODULES, axone.nn.init], ids=lambda module: module.__name__)
def test_every_public_name_exists_and_is_listed_once(module: ModuleType) -> None:
    names: list[str] = module.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_a_public_module_imports_nothing_that_it_does_not_export(module: ModuleType) -> None:
    imported = {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    assert imported <= set(module.__all__)
