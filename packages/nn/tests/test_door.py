"""The package's doors."""

from types import ModuleType

import pytest

import axone.nn
import axone.nn.functional


@pytest.mark.parametrize("door", [axone.nn, axone.nn.functional], ids=lambda door: door.__name__)
def test_every_public_name_is_there_once_and_no_other_class_or_function(door: ModuleType) -> None:
    names: list[str] = door.__all__
    assert len(set(names)) == len(names)
    defined = {name for name, value in vars(door).items() if callable(value) and not name.startswith("_")}
    assert defined <= set(names)
    assert all(hasattr(door, name) for name in names)
