"""The door of the package, and the methods behind it."""

import ast
import doctest
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import axone.autograd as ag
from axone.autograd import Tensor, extend, operators, ops, optim, tensor, testing
from axone.autograd.operators import METHODS

RECIPES = ("Part.", "Product.", "Rows.", "Scattered.")  # whose methods are explained in Deferred


def test_the_door_is_exact() -> None:
    core = [
        *("AnomalyError", "Drawing", "Measurement", "Tensor", "Value"),
        *("detect_anomaly", "draw", "grad", "no_grad", "optim", "profile"),
    ]
    assert sorted(ag.__all__) == sorted([*core, *(name for name in ops.__all__ if name != "getitem")])
    for module in (ag, extend, optim):
        assert all(hasattr(module, name) for name in module.__all__)


def test_everything_public_has_a_docstring() -> None:
    for module in (ag, extend, optim):
        for name in module.__all__:
            value = getattr(module, name)
            assert not callable(value) or inspect.getdoc(value) or name in {"VJP", "Array", "Gradient", "Operand"}


def documented() -> Iterator[tuple[str, object]]:
    """Yield everything public, and the public methods of classes."""
    for module in (ag, extend, optim, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                methods = {key: item for key, item in vars(value).items() if not key.startswith("_")}
                yield from ((f"{name}.{key}", item) for key, item in methods.items() if inspect.isfunction(item))


@pytest.mark.parametrize(("name", "value"), list(documented()))
def test_its_docstring_is_whole(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    examples = doctest.DocTestParser().get_examples(text)
    if examples:  # as pasted into a fresh interpreter
        test = doctest.DocTest(examples, {"__name__": "__main__"}, name, None, None, text)
        runner = doctest.DocTestRunner()
        runner.run(test)
        assert runner.failures == 0
    if inspect.isfunction(value) and not any(name.startswith(recipe) for recipe in RECIPES):
        parameters = [key for key in inspect.signature(value).parameters if key != "self"]
        assert not parameters or "Parameters\n----------" in text


def declarations() -> dict[str, ast.FunctionDef]:
    """Return the methods that tensor.py declares for type checkers."""
    source = Path(inspect.getfile(tensor)).read_text(encoding="utf-8")
    body = next(
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Tensor"
    ).body
    block = next(node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {node.name: node for node in block.body if isinstance(node, ast.FunctionDef)}


def test_the_declared_methods_are_those_that_are_hung_on_the_class() -> None:
    declared = declarations()
    assert sorted(declared) == sorted(METHODS)
    for name, node in declared.items():
        if name == "T":
            continue
        actual = inspect.signature(METHODS[name])
        arguments = node.args
        assert [a.arg for a in arguments.args][1:] == [
            p.name if not name.startswith("__") else "other" if name != "__getitem__" else "index"
            for p in list(actual.parameters.values())[1:]
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ], name
        defaults = [ast.literal_eval(d) for d in [*arguments.defaults, *filter(None, arguments.kw_defaults)]]
        assert defaults == [p.default for p in actual.parameters.values() if p.default is not p.empty], name
        assert [a.arg for a in arguments.kwonlyargs] == [
            p.name for p in actual.parameters.values() if p.kind is p.KEYWORD_ONLY
        ], name
        for argument in (*arguments.args, *arguments.kwonlyargs, *filter(None, [arguments.vararg])):
            if argument.annotation is not None and not name.startswith("__"):
                assert (
                    ast.unparse(argument.annotation)
                    == str(actual.parameters[argument.arg].annotation).replace("typing.", "")
                    or argument.arg in actual.parameters
                ), name
        assert getattr(Tensor, name) is METHODS[name]


def test_operations_are_hung_on_no_other_name() -> None:
    assert all(name.startswith("__") or hasattr(ops, name) for name in METHODS if name != "T")
    assert operators.METHODS is METHODS


def test_importing_it_needs_numpy_alone() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import axone.autograd; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"axone", "numpy"}
