"""Sandbox for chat templates: Jinja programs from elsewhere that may build a text, and nothing else.

Jinja's own sandbox keeps a template from Python's internals. It bounds neither time nor memory, so three limits are
added: only methods and filters that cannot enlarge a text without bound may be called, every sum and product of texts and
lists has a largest size, and a template's own code runs for at most a second. What it calls in C is not interrupted: lists
that share other lists, nested deeply, can still take long to turn into a text.

References
----------
.. [1] Jinja, "Sandbox", https://jinja.palletsprojects.com/en/stable/sandbox/
.. [2] Hugging Face, "Chat templates", https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_SECONDS = 1.0
LARGEST = 1 << 22  # characters of a text, or items of a list, that a template may build
_FILE = "<chat template>"
_WIDEST_INDENT = 16
_MOST_PLACES = 20  # of a rounded number: `round(15, -9999999999)` computes a power of ten
_METHODS = {
    str: "capitalize count endswith find index isalnum isalpha isdigit islower isspace isupper join lower lstrip replace "
    "removeprefix removesuffix rfind rsplit rstrip split splitlines startswith strip title upper",
    list: "count index",
    tuple: "count index",
    dict: "get items keys values",
}
_ALLOWED = {kind: frozenset(names.split()) for kind, names in _METHODS.items()}
_FILTERS = frozenset(
    [
        "abs",
        "capitalize",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "escape",
        "first",
        "float",
        "forceescape",
        "groupby",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "sort",
        "string",
        "sum",
        "title",
        "tojson",
        "trim",
        "unique",
        "upper",
    ]
)


class TemplateLimitError(TemplateError):
    """A template asked for more time or memory than it may have."""


def render(template: str, variables: Mapping[str, object]) -> str:
    """Render a chat template.

    Parameters
    ----------
    template : str
    variables : mapping of str to object
        Plain JSON values.

    Returns
    -------
    str

    Raises
    ------
    jinja2.TemplateError
        If the template is not valid, raises an error itself, or exceeds a limit.
    """
    compiled = _compiled(template)
    return _limited(lambda: compiled.render(variables))


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    """Return a compiled template: compiling takes 7 ms, rendering a tenth of it."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    code = environment.compile(template, filename=_FILE)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def _limited(run: Callable[[], str]) -> str:
    """Call a function and stop the template's code, line by line, once its time is over."""
    end = time.monotonic() + MOST_SECONDS

    def in_template(_frame: FrameType, _event: str, _argument: object) -> Any:
        if time.monotonic() > end:
            raise TemplateLimitError(f"it runs for more than {MOST_SECONDS:g} s")
        return in_template

    def on_call(frame: FrameType, event: str, argument: object) -> Any:
        return in_template(frame, event, argument) if frame.f_code.co_filename == _FILE else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        return run()
    finally:
        sys.settrace(before)


class _Compiler(CodeGenerator):
    """Jinja's compiler, with `~` as a call that the sandbox can bound."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - the name of the overridden method
        self.write("environment.concatenated((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


class _Generation(Extension):
    """The block ``{% generation %}``, which marks the assistant's part: its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the content of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with bounds on sizes."""

    code_generator_class = _Compiler
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: function for name, function in self.filters.items() if name in _FILTERS}
        self.filters |= {"tojson": _tojson, "join": _join, "replace": _replace, "round": _round}
        self.globals = {
            "range": self.globals["range"],
            "dict": dict,
            "namespace": self.globals["namespace"],
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read an attribute: methods of plain values that are on the list."""
        for kind, names in _ALLOWED.items():
            if isinstance(obj, kind):
                return attr in names
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Return nothing, so that no template calls `str.format`, which can pad without bound."""

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call a function for a template."""
        name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
        if isinstance(owner, str) and name == "replace":
            return _replace(owner, *arguments, **named)
        if isinstance(owner, str) and name == "join" and len(arguments) == 1:
            return _join(arguments[0], owner)
        return super().call(context, function, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute a sum, product, power or remainder of numbers, texts or lists of bounded size."""
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else None for side in (left, right)]
        if operator == "+" and None not in sizes:
            _require_small(sum(size or 0 for size in sizes))
        elif sizes != [None, None]:  # "%" formats, which can pad, and "*" repeats
            if operator != "*":
                raise TemplateLimitError(f"the operator {operator} is for numbers alone")
            _require_small(
                math.prod(max(side if size is None else size, 0) for side, size in zip((left, right), sizes))
            )
        elif any(isinstance(side, int) and side.bit_length() > 64 for side in (left, right)) or (
            operator == "**" and isinstance(right, (int, float)) and abs(right) > 64
        ):
            raise TemplateLimitError("a number is beyond 64 bits")
        return super().call_binop(context, operator, left, right)

    def concatenated(self, parts: tuple[object, ...]) -> str:
        """Return the parts of ``a ~ b`` as one text."""
        texts = [str(part) for part in parts]
        _require_small(sum(map(len, texts)))
        return "".join(texts)


def _require_small(size: int) -> None:
    if size > LARGEST:
        raise TemplateLimitError(f"it builds a text or list of {size} elements, and {LARGEST} are the most")


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(str(form)[:100])


def _tojson(value: object, indent: int | None = None, **options: Any) -> str:
    """Return JSON without the HTML escapes of Jinja's own filter."""
    if indent is not None and not 0 <= indent <= _WIDEST_INDENT:
        raise TemplateLimitError(f"indent ({indent}) must be from 0 to {_WIDEST_INDENT}")
    options = {name: options[name] for name in ("ensure_ascii", "separators", "sort_keys") if name in options}
    return json.dumps(value, indent=indent, **{"ensure_ascii": False, **options})


def _round(value: float, precision: int = 0) -> float:
    """Return a number rounded to some decimal places."""
    if not -_MOST_PLACES <= precision <= _MOST_PLACES:
        raise TemplateLimitError(f"precision ({precision}) must be from {-_MOST_PLACES} to {_MOST_PLACES}")
    return round(value, precision)


def _join(items: Any, separator: str = "", attribute: str | int | None = None) -> str:
    """Return items as one text."""
    chosen = items if attribute is None else [item[attribute] for item in items]
    texts = [str(item) for item in chosen]
    _require_small(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    """Return a text with one part of it replaced by another."""
    whole = str(text)
    found = whole.count(old) if old else len(whole) + 1
    _require_small(len(whole) + len(new) * found)
    return whole.replace(old, new, -1 if count is None else count)
