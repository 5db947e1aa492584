"""Types of the fields of a configuration, checked when it is built: JSON and the layers then need no check of their own."""

import functools
import types
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

_NAMES = {int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}
_MISFIT = object()


def require_field_types(configuration: object) -> None:
    """Check that every field of a dataclass holds its annotated type, and convert NumPy's numbers to Python's.

    Parameters
    ----------
    configuration : object
        A dataclass, also a frozen one, from its ``__post_init__``. Its fields are annotated as int, float, bool, Literal,
        tuple, a class, or a union of these with None.

    Raises
    ------
    TypeError
        If a field holds a value of another type; bool is not a number.
    ValueError
        If a field with a Literal holds none of its values.
    """
    for name, hint in field_types(type(configuration)).items():
        value = getattr(configuration, name)
        converted = _converted(value, hint)
        if converted is _MISFIT:
            error = ValueError if get_origin(hint) is Literal else TypeError
            raise error(f"{name} ({value!r:.60}) must be {_describe(hint)}")
        object.__setattr__(configuration, name, converted)


def field_types(kind: type) -> dict[str, Any]:
    """Return the evaluated annotations of a dataclass."""
    return _type_hints(kind)


_type_hints = functools.cache(get_type_hints)


def _converted(value: Any, hint: Any) -> Any:
    """Return a value as its annotation wants it, or `_MISFIT`."""
    if isinstance(hint, types.UnionType):
        return next((each for part in get_args(hint) if (each := _converted(value, part)) is not _MISFIT), _MISFIT)
    if get_origin(hint) is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _MISFIT
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, (tuple, list)) or len(value) != len(parts):
            return _MISFIT
        converted = tuple(map(_converted, value, parts))
        return _MISFIT if _MISFIT in converted else converted
    if hint is bool:
        return bool(value) if isinstance(value, (bool, np.bool_)) else _MISFIT
    if hint is int:
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _MISFIT
    if hint is float:
        if type(value) is int:
            return value
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else _MISFIT
    return value if isinstance(value, hint) else _MISFIT


def _describe(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_describe, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"{len(get_args(hint))} values, each {_describe(get_args(hint)[0])}"
    return _NAMES[hint] if hint in _NAMES else str(hint.__name__)
