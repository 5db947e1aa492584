"""Budget of a template: the bytes that it may build and the steps that it may take, in one number.

A unit stands for a byte of memory or for about ten nanoseconds. Units are never given back, so they bound the time and the
memory of a render together, and the same template with the same messages needs the same number of them on every machine. A
list that stands twice in another list counts twice, because a text, a comparison or JSON visits it twice.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from jinja2 import TemplateError

MOST_UNITS = 1 << 27
STEP = 64  # units of an item of a loop or a node of the syntax tree: a name takes 50 ns, an attribute 500 ns
CALL = 128  # units of a call, beside its arguments
_VIEWS = (KeysView, ValuesView, ItemsView)
_CONTAINERS = (list, tuple, dict, *_VIEWS)


class TemplateLimitError(TemplateError):
    """Error of a template that needs more time or memory than its budget."""


class Stream(Iterator[object]):
    """Iterator over computed items: as a generator, it has no length and can be read once.

    Parameters
    ----------
    items : list of object
    """

    def __init__(self, items: list[object]) -> None:
        self.items = items
        self._rest = iter(items)

    def __next__(self) -> object:
        """Return the next item."""
        return next(self._rest)


class Budget:
    """Units that one render has left.

    Parameters
    ----------
    units : int, default 2 ** 27

    Attributes
    ----------
    left : int
    """

    def __init__(self, units: int = MOST_UNITS) -> None:
        self.left = units
        self._sizes: dict[int, tuple[object, int]] = {}  # by id; the object is kept so that no other one gets its id

    def spend(self, units: int) -> bool:
        """Subtract units, and return True.

        Raises
        ------
        TemplateLimitError
            If not as many are left.
        """
        self.left -= units
        if self.left < 0:
            raise TemplateLimitError("it needs more than a second or 128 MB: choose another template")
        return True

    def size(self, *values: object) -> int:
        """Return the bytes of values, where a shared list counts at each of its places.

        Templates cannot change a list, tuple or dict, so each is measured once.
        """
        return sum(map(self._size, values))

    def forget(self) -> None:
        """Drop the references to the values that were measured."""
        self._sizes.clear()

    def _size(self, value: object) -> int:
        if isinstance(value, (str, int, float)):
            return sys.getsizeof(value)
        if isinstance(value, Stream):
            return self._size(value.items)
        if isinstance(value, range):
            return STEP * (1 + len(value))
        if not isinstance(value, _CONTAINERS):
            return STEP
        known = self._sizes.get(id(value))
        if known is None:
            known = self._sizes[id(value)] = (value, sys.getsizeof(value) + self.size(*_parts(value)))
        return known[1]


def _parts(value: object) -> list[object]:
    """Return the items of a container: of a dict and its views, the keys and values."""
    if isinstance(value, _VIEWS):
        value = value.mapping  # type: ignore[union-attr]  # typeshed has it for the views of a dict alone
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return list(value) if isinstance(value, (list, tuple)) else []
