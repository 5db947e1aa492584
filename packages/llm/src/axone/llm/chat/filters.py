"""Filters and tests of chat templates: those that the templates of models use, at a cost in units of a budget.

Jinja's own functions compute most of them. A filter whose result can be far larger than its arguments is written here, so
that it spends its units first. Left out, among others, are `sum`, which joins lists in quadratic time, `unique`, whose hashes
can be made to collide, and `format`, `center` and `round`, which take a width.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Environment, Undefined, pass_environment
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS

from axone.llm.chat import costs
from axone.llm.chat.budget import CALL, STEP, Budget, Stream, TemplateLimitError

_Function = Callable[..., Any]
_WIDEST = 64  # characters of an indent or of a separator of JSON
_LONGEST_NUMBER = 1_000  # digits: Python reads them in quadratic time
_NAMES = {  # filters that Jinja computes, by their units per byte of the arguments
    0: "count d default first items last length list map reject rejectattr reverse select selectattr",
    4: "abs",
    16: "dictsort max min sort",  # sorting a million items compares each twenty times
}
_COSTS = {name: units for units, names in _NAMES.items() for name in names.split()}
_BY_ITEM = frozenset({"items", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr"})
_TEXT_COSTS = {"capitalize": 16, "lower": 16, "title": 64, "upper": 16}  # per byte of the text
_COMPARISONS = {
    name: kind
    for kind, names in {
        "eq": "== eq equalto",
        "ne": "!= ne",
        "lt": "< lt lessthan",
        "lteq": "<= le",
        "gt": "> gt greaterthan",
        "gteq": ">= ge",
        "in": "in",
    }.items()
    for name in names.split()
}
_TESTS: dict[str, Any] = dict(TESTS)
_KINDS = (
    "boolean callable defined false float integer iterable mapping none number sameas sequence string true undefined"
)


def filters(budget: Budget) -> dict[str, Any]:
    """Return the filters by their names."""
    own: dict[str, _Function] = {
        "float": functools.partial(_number, budget, FILTERS["float"]),
        "indent": functools.partial(_indent, budget),
        "int": functools.partial(_number, budget, FILTERS["int"]),
        "join": pass_environment(functools.partial(_join, budget)),
        "replace": functools.partial(_replace, budget),
        "safe": functools.partial(costs.text, budget),
        "string": functools.partial(costs.text, budget),
        "tojson": functools.partial(_tojson, budget),
        "trim": functools.partial(_trim, budget),
    }
    texts = {name: functools.partial(_text, budget, FILTERS[name], units) for name, units in _TEXT_COSTS.items()}
    return own | texts | {name: _metered(budget, name, units) for name, units in _COSTS.items()}


def tests(budget: Budget) -> dict[str, Any]:
    """Return the tests (``is ...``) by their names."""
    compared = {name: functools.partial(costs.compare, budget, kind) for name, kind in _COMPARISONS.items()}
    cased = {name: functools.partial(_cased, budget, _TESTS[name]) for name in ("lower", "upper")}
    divided = {name: functools.partial(_divided, _TESTS[name]) for name in ("divisibleby", "even", "odd")}
    return {name: _TESTS[name] for name in _KINDS.split()} | compared | cased | divided


def _metered(budget: Budget, name: str, units: int) -> _Function:
    """Return a filter of Jinja that spends units first."""
    function, by_item = FILTERS[name], name in _BY_ITEM

    @functools.wraps(function)  # it copies the mark of a filter that takes the context first
    def metered(*arguments: Any, **named: Any) -> Any:
        budget.spend(CALL + (units and units * budget.size(*arguments, *named.values())))
        if not by_item:
            return costs.charge(budget, function(*arguments, **named))
        budget.spend(CALL * max(map(_length, arguments)))
        result = function(*arguments, **named)
        return result if isinstance(result, (str, list)) else Stream(list(result))

    return metered


def _length(value: object) -> int:
    """Return the number of items of a value, or 0 if it has none."""
    if isinstance(value, Stream):
        return len(value.items)
    return len(value) if hasattr(value, "__len__") else 0


def _text(budget: Budget, function: _Function, units: int, value: object) -> str:
    """Apply a filter to a text."""
    whole = costs.text(budget, value)
    budget.spend(CALL + units * budget.size(whole))
    result: str = function(whole)
    return costs.charge(budget, result)


def _number(budget: Budget, convert: _Function, value: object, *arguments: Any, **named: Any) -> Any:
    """Return a number from a text or another number."""
    budget.spend(CALL)
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        raise TemplateLimitError(f"a number has {len(value)} digits, and {_LONGEST_NUMBER} are the most")
    return convert(value, *arguments, **named)


def _indent(budget: Budget, value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Return a text with indented lines."""
    if (len(width) if isinstance(width, str) else width) > _WIDEST:
        raise TemplateLimitError(f"the width of an indent is beyond {_WIDEST}")
    lines = costs.lines(value)
    budget.spend(CALL + 4 * budget.size(value) + lines * (STEP + 4 * _WIDEST))
    indented: str = FILTERS["indent"](value, width, first, blank)
    return costs.charge(budget, indented)


def _join(
    budget: Budget, environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    """Return items as one text."""
    budget.spend(CALL)
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return costs.join(budget, costs.text(budget, d), (costs.text(budget, item) for item in items))


def _replace(budget: Budget, value: object, old: object, new: object, count: int | None = None) -> str:
    """Return a text with one part of it replaced by another."""
    budget.spend(CALL)
    whole, old, new = (costs.text(budget, part) for part in (value, old, new))
    return costs.replace(budget, whole, old, new, -1 if count is None else count)


def _tojson(budget: Budget, value: object, indent: int | None = None, **options: Any) -> str:
    """Return JSON without the HTML escapes of Jinja's own filter."""
    if indent is not None and not 0 <= indent <= _WIDEST:
        raise TemplateLimitError(f"indent ({indent}) must be from 0 to {_WIDEST}")
    options = {name: options[name] for name in ("ensure_ascii", "separators", "sort_keys") if name in options}
    if any(len(part) > _WIDEST for part in options.get("separators") or ()):
        raise TemplateLimitError(f"a separator of JSON has more than {_WIDEST} characters")
    budget.spend(CALL + 6 * budget.size(value))  # an escape has six characters for one byte
    encoder = json.JSONEncoder(indent=indent, **{"ensure_ascii": False, **options})
    return costs.join(budget, "", encoder.iterencode(value))


def _trim(budget: Budget, value: object, chars: str | None = None) -> str:
    """Return a text without the spaces, or the given characters, at its ends."""
    whole = costs.text(budget, value)
    stripped: str = costs.call_method(budget, whole.strip, chars)
    return stripped


def _cased(budget: Budget, test: _Function, value: object) -> Any:
    """Return whether a text is in lower or upper case."""
    return test(costs.text(budget, value))


def _divided(test: _Function, value: object, *arguments: Any) -> Any:
    """Return whether a number is divisible: of a text, ``%`` would be its format."""
    if not all(isinstance(number, (int, float, Undefined)) for number in (value, *arguments)):
        raise TemplateLimitError("even, odd and divisibleby are for numbers alone")
    return test(value, *arguments)
