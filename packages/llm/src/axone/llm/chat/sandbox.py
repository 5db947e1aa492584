"""Sandbox for chat templates: Jinja programs from elsewhere that may build a text, and nothing else.

Jinja's own sandbox keeps a template from Python's internals, but bounds neither time nor memory. Here every block, call,
operator, comparison and output spends units of one budget before it computes. A template reaches no attribute, filter or
test that is not on a list.

References
----------
.. [1] Jinja, "Sandbox", https://jinja.palletsprojects.com/en/stable/sandbox/
.. [2] Hugging Face, "Chat templates", https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Iterable, Mapping
from types import BuiltinMethodType, CodeType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from axone.llm.chat import costs
from axone.llm.chat.budget import CALL, STEP, Budget, TemplateLimitError
from axone.llm.chat.filters import filters, tests

_LONGEST_DATE = 100  # characters of a format
_MOST_BITS = 64  # of a number in the program: Python turns long ones into text in quadratic time
_MOST_NUMBERS = 64  # keys of a dict that are not texts: numbers can be chosen so that all have the same hash
_LOOP = {
    *("changed", "cycle", "depth", "depth0", "first", "index", "index0"),
    *("last", "length", "nextitem", "previtem", "revindex", "revindex0"),
}
_STATEMENTS = (
    *(nodes.Assign, nodes.AssignBlock, nodes.Break, nodes.CallBlock, nodes.Continue, nodes.FilterBlock, nodes.For),
    *(nodes.If, nodes.Macro, nodes.Output, nodes.With),
)
_MOST_NODES = 10_000  # compiling 40,000 takes 2 s and 180 MB; models' templates have up to 3,000
_BLOCKS = ("body", "else_", "elif_")  # fields of a node that hold blocks, each of which spends its own units


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
        If the template is not valid, raises an error itself, or needs more work than its budget.
    """
    code, budget = _compiled(template), Budget()
    environment = _Sandbox(budget)
    try:
        return environment.template_class.from_code(environment, code, environment.globals).render(variables)
    finally:
        budget.forget()  # the environment is in a cycle of references


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> CodeType:
    """Return the code of a template: compiling takes 7 ms, rendering a tenth of it."""
    environment = _Sandbox(Budget())
    tree = environment.parse(template)
    for count, node in enumerate(tree.find_all(nodes.Node)):
        if count == _MOST_NODES:
            raise TemplateError(f"it has more than {_MOST_NODES} expressions, which are the most")
        if getattr(node, "dyn_args", None) or getattr(node, "dyn_kwargs", None):
            raise TemplateError("it passes arguments by * or **, which no chat template needs")
        if isinstance(node, nodes.Const) and isinstance(node.value, int) and node.value.bit_length() > _MOST_BITS:
            raise TemplateError(f"it holds a number beyond {_MOST_BITS} bits")
        if isinstance(node, nodes.Stmt) and not isinstance(node, _STATEMENTS):
            raise TemplateError(f"it holds the statement {type(node).__name__}, which no chat template needs")
    return environment.compile(tree, filename="<chat template>")


class _Compiler(CodeGenerator):
    """Jinja's compiler, with each block, comparison, slice and ``~`` as a call that spends units."""

    def blockvisit(self, statements: Iterable[nodes.Node], frame: Frame) -> None:
        body = list(statements)
        self.writeline(f"environment.spend({CALL + STEP * sum(map(_steps, body))})")
        super().blockvisit(body, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - the names of the overridden methods
        if node.test is not None:
            spend = nodes.Call(
                nodes.EnvironmentAttribute("spend"), [nodes.Const(STEP * _steps(node.test))], [], None, None
            )
            node.test = nodes.And(spend, node.test)
        super().visit_For(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        self._call("compare", frame, node.expr, *(part for operand in node.ops for part in (operand.op, operand.expr)))

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self._call("concatenate", frame, *node.nodes)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._call("pairs", frame, *(part for pair in node.items for part in (pair.key, pair.value)))

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.arg, nodes.Slice):
            self._call("slice", frame, node.node, node.arg.start, node.arg.stop, node.arg.step)
        else:
            super().visit_Getitem(node, frame)

    def _call(self, method: str, frame: Frame, *arguments: nodes.Expr | str | None) -> None:
        """Write a call of a method of the environment."""
        self.write(f"environment.{method}(")
        for argument in arguments:
            if isinstance(argument, nodes.Expr):
                self.visit(argument, frame)
            else:
                self.write(repr(argument))
            self.write(", ")
        self.write(")")


def _steps(node: nodes.Node) -> int:
    """Return the number of nodes of a syntax tree, outside of the blocks in it."""
    tests = (branch.test for branch in node.elif_) if isinstance(node, nodes.If) else ()
    return 1 + sum(map(_steps, (*node.iter_child_nodes(exclude=_BLOCKS), *tests)))


class _Generation(Extension):
    """The block ``{% generation %}``, which marks the assistant's part: its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the content of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's namespace, without its content in its text: a namespace can hold itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox for one render, with the budget of it."""

    code_generator_class = _Compiler
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, budget: Budget) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            optimized=False,  # the optimizer calls filters while it compiles
            finalize=self._output,
        )
        self._budget, self.spend = budget, budget.spend
        self.filters = filters(budget)
        self.tests = tests(budget)
        self.globals = {
            "range": self.globals["range"],
            "dict": _dict,
            "namespace": _namespace,
            "raise_exception": self._raise_exception,
            "strftime_now": self._strftime_now,
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read an attribute."""
        if isinstance(obj, Namespace):
            return super().is_safe_attribute(obj, attr, value)
        return attr in (_LOOP if isinstance(obj, LoopContext) else costs.methods(obj))

    def wrap_str_format(self, value: Any) -> None:
        """Return nothing, so that no template calls `str.format`, which can pad without bound."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item of a value."""
        self.spend(STEP + self._budget.size(argument))  # a tuple is hashed
        return super().getitem(obj, argument)

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call a function for a template."""
        self.spend(CALL + STEP * (len(arguments) + len(named)))
        if not isinstance(function, (Macro, LoopContext)):
            named = {name: value for name, value in named.items() if name != "_loop_vars"}
            if isinstance(function, BuiltinMethodType) and costs.methods(function.__self__):
                return costs.call_method(self._budget, function, *arguments, **named)
            self.spend(4 * self._budget.size(*arguments, *named.values()))
        return super().call(context, function, *arguments, **named)

    def call_binop(self, _context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute a binary operator."""
        return costs.calculate(self._budget, operator, self.binop_table[operator], left, right)

    def compare(self, left: Any, *rest: Any) -> Any:
        """Compare a value with a second one, that with a third one, and so on, each after the name of its comparison."""
        result = True
        for name, right in zip(rest[::2], rest[1::2]):
            result = costs.compare(self._budget, name, left, right)
            if not result:
                break
            left = right
        return result

    def concat(self, parts: Iterable[str]) -> str:
        """Return the parts of a text as one."""
        return costs.join(self._budget, "", parts)

    def concatenate(self, *parts: object) -> str:
        """Return the parts of ``a ~ b`` as one text."""
        return costs.join(self._budget, "", (costs.text(self._budget, part) for part in parts))

    def pairs(self, *parts: object) -> dict[Any, object]:
        """Return a dict from its keys and values by turns."""
        keys = parts[::2]
        self.spend(self._budget.size(*keys))  # they are hashed
        if sum(not isinstance(key, str) for key in keys) > _MOST_NUMBERS:
            raise TemplateLimitError(f"a dict has more than {_MOST_NUMBERS} keys that are not texts")
        return dict(zip(keys, parts[1::2]))

    def slice(self, value: Any, *places: Any) -> Any:
        """Return a slice of a text or list."""
        self.spend(CALL + (sys.getsizeof(value) if isinstance(value, (str, list, tuple)) else 0))
        return value[slice(*places)]

    @pass_context  # such an output is not computed while the template is compiled
    def _output(self, _context: Any, value: object) -> str:
        return costs.text(self._budget, value)

    def _raise_exception(self, message: object) -> NoReturn:
        raise TemplateError(costs.text(self._budget, message))

    def _strftime_now(self, form: object) -> str:
        return dt.datetime.now().astimezone().strftime(costs.text(self._budget, form)[:_LONGEST_DATE])


def _dict(mapping: Mapping[str, object] | None = None, **named: object) -> dict[str, object]:
    return {**(mapping or {}), **named}


def _namespace(mapping: Mapping[str, object] | None = None, **named: object) -> Namespace:
    return _Namespace(_dict(mapping, **named))
