"""Costs of Python's own operations on the values of a template, which are spent before the operation begins.

These operations run in C, where nothing interrupts them.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from jinja2 import Undefined

from axone.llm.chat.budget import CALL, STEP, Budget, TemplateLimitError

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
_Value = TypeVar("_Value")
_SEQUENCES = (str, list, tuple)
_NUMBERS = (int, float, Undefined)  # an undefined value raises its own error
_MOST_BITS = 64
_WIDEST = 4  # bytes of a character, which one emoji gives to all characters of a text
_PIECE = 96  # units of a piece of a text: its object, and its place in a list
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_NAMES: dict[type, dict[int, str]] = {  # the methods that a template may call, by their units per byte of the object
    str: {
        0: "join replace",
        1: "count endswith find index isalnum isalpha isdigit islower isspace isupper lstrip removeprefix removesuffix "
        "rfind rsplit rstrip split splitlines startswith strip",
        16: "capitalize lower title upper",  # Python works on twelve bytes per character
    },
    list: {4: "count index"},
    tuple: {4: "count index"},
    dict: {0: "get items keys values"},
}
_METHODS = {
    kind: {name: units for units, names in groups.items() for name in names.split()} for kind, groups in _NAMES.items()
}


def methods(value: object) -> dict[str, int]:
    """Return the methods of a value that a template may call, and the units of each per byte of the value."""
    return next((names for kind, names in _METHODS.items() if isinstance(value, kind)), {})


def call_method(budget: Budget, method: Any, *arguments: Any, **named: Any) -> Any:
    """Call a method of a text, list or dict."""
    owner, name = method.__self__, method.__name__
    if isinstance(owner, dict):
        budget.spend(budget.size(*arguments))  # a key is hashed
    budget.spend(CALL + methods(owner)[name] * _search(budget, owner, *arguments, *named.values()))
    if isinstance(owner, str):
        if name == "join":
            return join(budget, owner, *arguments)
        if name == "replace":
            return replace(budget, owner, *arguments, **named)
        if name in ("split", "rsplit", "splitlines"):
            budget.spend(_PIECE * _pieces(owner, name, [*arguments, *named.values()]))
    return charge(budget, method(*arguments, **named))


def charge(budget: Budget, value: _Value) -> _Value:
    """Spend the bytes of a computed value, if it is a text, and return it."""
    if isinstance(value, str):
        budget.spend(sys.getsizeof(value))
    return value


def compare(budget: Budget, name: str, left: Any, right: Any) -> Any:
    """Return a comparison, named as in Jinja's syntax tree."""
    if name not in ("in", "notin"):
        budget.spend(CALL + min(budget.size(left), budget.size(right)))
    elif isinstance(left, str) and isinstance(right, str):
        budget.spend(CALL + _search(budget, right, left))
    else:  # a dict looks up its key
        budget.spend(CALL + budget.size(left) + (0 if isinstance(right, dict) else budget.size(right)))
    return _COMPARISONS[name](left, right)


def calculate(budget: Budget, symbol: str, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Compute a binary operator on numbers, or a sum or multiple of texts or lists."""
    budget.spend(CALL)
    repeated, times = (left, right) if isinstance(left, _SEQUENCES) else (right, left)
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return join(budget, "", (left, right))
    if symbol == "+" and isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        budget.spend(sys.getsizeof(left) + sys.getsizeof(right))
    elif symbol == "*" and isinstance(repeated, _SEQUENCES) and isinstance(times, int):
        budget.spend(sys.getsizeof(repeated) * max(times, 0))
    elif symbol not in "+*" and not (isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)):
        raise TemplateLimitError(f"the operator {symbol} is for numbers alone")
    elif any(isinstance(side, int) and side.bit_length() > _MOST_BITS for side in (left, right)) or (
        symbol == "**" and isinstance(right, (int, float)) and abs(right) > _MOST_BITS
    ):
        raise TemplateLimitError(f"a number is beyond {_MOST_BITS} bits")
    return charge(budget, function(left, right))


def text(budget: Budget, value: object) -> str:
    """Return a value as text."""
    if isinstance(value, str):
        return value
    budget.spend(_WIDEST * 4 * budget.size(value))  # an escape has four characters for one byte
    return str(value)


def join(budget: Budget, separator: str, texts: Iterable[str]) -> str:
    """Return texts as one."""
    pieces: list[str] = []
    length, plain = 0, separator.isascii()
    for piece in texts:
        budget.spend(STEP + len(piece) + len(separator))
        pieces.append(piece)
        length, plain = length + len(piece) + len(separator), plain and piece.isascii()
    budget.spend(0 if plain else _WIDEST * length)
    return separator.join(pieces)


def replace(budget: Budget, whole: str, old: str, new: str, count: int = -1, /) -> str:
    """Return a text with a part of it replaced by another."""
    budget.spend(_search(budget, whole, old))
    found = whole.count(old)
    width = 1 if whole.isascii() and new.isascii() else _WIDEST
    budget.spend(width * (len(whole) + len(new) * (found if count < 0 else min(found, count))))
    return whole.replace(old, new, count)


def lines(whole: str) -> int:
    """Return the most lines into which `str.splitlines` splits a text."""
    return 1 + sum(map(whole.count, _LINE_ENDS))


def _search(budget: Budget, value: object, *sought: object) -> int:
    """Return the units of a search: from its end, Python compares each place of a text with each of the sought characters."""
    return budget.size(value) * (1 + budget.size(*sought) // 64)


def _pieces(whole: str, name: str, arguments: list[Any]) -> int:
    """Return the most pieces into which a text is split."""
    if name == "splitlines":
        return lines(whole)
    separator = arguments[0] if arguments else None
    return 1 + (whole.count(separator) if isinstance(separator, str) and separator else len(whole) // 2)
