"""Schemas of JSON files: validated dataclasses, and format numbers with upgrades from older formats.

Every JSON file of this package carries ``"format": N``. A reader upgrades older documents and refuses newer ones.
"""

import contextlib
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from axone.llm.errors import CheckpointError
from axone.llm.storage.field_types import field_types

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
Upgrade: TypeAlias = Callable[[Document], Document]

FORMAT = "format"


@dataclass(frozen=True)
class Format:
    """Current format of one kind of JSON file, with an upgrade from each older format.

    Attributes
    ----------
    upgrades : tuple of callable
        ``upgrades[n]`` returns a document of format n in format n + 1, so that the current format is their number. It must
        leave a document that it cannot upgrade as it is: the schema refuses that document afterwards.

    Examples
    --------
    >>> from pathlib import Path
    >>> from axone.llm.storage.json_schema import Format, renamed
    >>> options = Format((lambda document: renamed(document, {"clip": "max_grad_norm"}),))
    >>> options.upgrade({"clip": 1.0}, Path("options.json"))
    {'max_grad_norm': 1.0}
    >>> options.stamp({"max_grad_norm": 1.0})
    {'format': 1, 'max_grad_norm': 1.0}
    """

    upgrades: tuple[Upgrade, ...]

    @property
    def current(self) -> int:
        """The number that new files carry."""
        return len(self.upgrades)

    def stamp(self, content: Mapping[str, Any]) -> Document:
        """Return a document with the current format's number as its first field."""
        return {FORMAT: self.current, **{name: value for name, value in content.items() if name != FORMAT}}

    def upgrade(self, content: Document, path: Path) -> Document:
        """Return a document in the current format, without its number.

        Parameters
        ----------
        content : dict
            Read from a file; a document without a number has format 0.
        path : Path
            The file, for the message.

        Raises
        ------
        CheckpointError
            If the number is not one, or newer than this version of the package.
        """
        number = content.get(FORMAT, 0)
        if type(number) is not int or number < 0:
            raise CheckpointError(path, f"{FORMAT} must be a whole number of at least 0, not {number!r:.60}")
        if number > self.current:
            raise CheckpointError(
                path, f"has format {number}, and this version of axone-llm reads up to {self.current}: update axone-llm"
            )
        content = {name: value for name, value in content.items() if name != FORMAT}
        for upgrade in self.upgrades[number:]:
            content = upgrade(content)
        return content


def numbered(document: Document) -> Document:
    """Return a document unchanged: the upgrade from files without a number to format 1."""
    return document


def renamed(document: Document, names: Mapping[str, str]) -> Document:
    """Return a document whose fields have new names, in the same order."""
    return {names.get(name, name): value for name, value in document.items()}


def from_json(kind: type[T], content: object, path: Path, *, called: Mapping[str, str] | None = None) -> T:
    """Return a dataclass with the fields that a JSON object gives.

    Parameters
    ----------
    kind : type
        A dataclass whose fields are whole numbers, numbers, booleans, strings, literals, tuples of these, objects that
        are kept as they are, or None.
    content : object
        The file's content; a field with a default may be missing.
    path : Path
        The file, for the message.
    called : mapping of str to str, optional
        The file's name of a field, where it differs.

    Raises
    ------
    CheckpointError
        Naming the field that is missing, unknown, or of another type or range.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(path, f"must hold a JSON object for {kind.__name__}, not {content!r:.60}")
    names = called or {}
    hints = field_types(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass, as documented
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise CheckpointError(path, f"{name!r:.60} is not known here")
        values[name] = _value(value, hints[name], names.get(name, name), path)
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise CheckpointError(path, f"{names.get(name, name)} is missing")
    try:
        return kind(**values)
    except ValueError as error:  # the dataclass's own ranges
        raise CheckpointError(path, str(error)) from error


def _value(value: Any, hint: Any, name: str, path: Path) -> Any:
    """Return a JSON value as the type that a field wants."""
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if get_origin(option) is Literal and isinstance(value, str) and value in get_args(option):
            return value
        if get_origin(option) is tuple and isinstance(value, list) and len(value) == len(get_args(option)):
            return tuple(_value(part, each, name, path) for part, each in zip(value, get_args(option)))
        if get_origin(option) is dict and isinstance(value, dict):
            return value
        if is_dataclass(option) and isinstance(option, type) and isinstance(value, dict):
            return from_json(option, value, path)
        if option in {int, bool, str} and type(value) is option:
            return value
        if option is float and type(value) in {int, float}:
            with contextlib.suppress(OverflowError):  # a whole number beyond the largest float
                if math.isfinite(float(value)):
                    return float(value)
    raise CheckpointError(path, f"{name} ({value!r:.60}) must be {_describe(hint)}")


def _describe(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_describe(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {len(get_args(hint))}, each {_describe(get_args(hint)[0])}"
    if get_origin(hint) is dict or is_dataclass(hint):
        return "a JSON object"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    return names.get(hint, str(hint))
