"""Public modules of the package: their names, docstrings and methods."""

import ast
import doctest
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import axone.autograd as ag
from axone.autograd import Tensor, Value, extend, methods, ops, optim, tensor, testing
from axone.autograd.methods import METHODS

DEFERRED = ("Part.", "Product.", "Rows.", "Scattered.")  # their methods are documented in Deferred


def test_the_public_names_are_exact() -> None:
    core = [
        *("AnomalyError", "Drawing", "Measurement", "Tensor", "Value"),
        *("detect_anomaly", "draw", "grad", "no_grad", "optim", "profile"),
    ]
    assert sorted(ag.__all__) == sorted([*core, *(name for name in ops.__all__ if name != "getitem")])
    for module in (ag, extend, optim):
        assert all(hasattr(module, name) for name in module.__all__)


def test_names_that_are_imported_on_use_are_listed() -> None:
    code = "import axone.autograd as ag; print(set(ag.__all__) <= set(dir(ag)), 'draw' in vars(ag), ag.draw.__name__)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True", "False", "draw"]


def test_every_public_name_has_a_docstring() -> None:
    for module in (ag, extend, optim):
        for name in module.__all__:
            value = getattr(module, name)
            assert not callable(value) or inspect.getdoc(value) or name in {"VJP", "Array", "Gradient", "Operand"}


def documented() -> Iterator[tuple[str, object]]:
    """Yield every public name, and the public methods of classes."""
    for module in (ag, extend, optim, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                public = {key: item for key, item in vars(value).items() if not key.startswith("_")}
                yield from ((f"{name}.{key}", item) for key, item in public.items() if inspect.isfunction(item))


@pytest.mark.parametrize(("name", "value"), list(documented()))
def test_docstrings_have_parameters_and_examples_that_run(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    examples = doctest.DocTestParser().get_examples(text)
    if examples:  # as pasted into a fresh interpreter
        test = doctest.DocTest(examples, {"__name__": "__main__"}, name, None, None, text)
        runner = doctest.DocTestRunner()
        runner.run(test)
        assert runner.failures == 0
    if inspect.isfunction(value) and not any(name.startswith(prefix) for prefix in DEFERRED):
        parameters = [key for key in inspect.signature(value).parameters if key not in {"self", "unknown"}]
        assert not parameters or "Parameters\n----------" in text


def declarations() -> dict[str, ast.FunctionDef]:
    """Return the methods that `declarations.pyi` declares for type checkers; of overloads the first."""
    source = Path(inspect.getfile(tensor)).with_name("declarations.pyi").read_text(encoding="utf-8")
    (declared,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    functions = [node for node in declared.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in reversed(functions)}


def test_the_declared_methods_are_those_of_the_class() -> None:
    declared = declarations()
    assert sorted(declared) == sorted(METHODS)
    for name, node in declared.items():
        if name == "T":
            continue
        actual = [p for p in inspect.signature(METHODS[name]).parameters.values() if p.kind is not p.VAR_KEYWORD]
        arguments = node.args
        assert [a.arg for a in arguments.args][1:] == [
            p.name if not name.startswith("__") else "other" if name != "__getitem__" else "index"
            for p in actual[1:]
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ], name
        defaults = [ast.literal_eval(d) for d in [*arguments.defaults, *filter(None, arguments.kw_defaults)]]
        assert defaults == [p.default for p in actual if p.default is not p.empty], name
        assert [a.arg for a in arguments.kwonlyargs] == [p.name for p in actual if p.kind is p.KEYWORD_ONLY], name
        assert getattr(Tensor, name) is METHODS[name]


def test_methods_have_the_names_of_operations_or_of_numpy() -> None:
    import numpy as np

    for name in METHODS:
        assert name.startswith("__") or name == "T" or hasattr(ops, name) or hasattr(np.ndarray, name)
    assert methods.METHODS is METHODS


def test_tensor_has_every_method_of_value() -> None:
    assert all(hasattr(Tensor, name) for name in dir(Value) if not name.startswith("_"))


def test_flatten_tolist_and_copy() -> None:
    t = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert t.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert Tensor(3.0).tolist() == 3.0
    for result in (t.flatten(), t.copy()):
        result.data[...] = 0.0
        result.backward(result.data + 2.0)
    assert t.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert t.flatten().shape == (4,)
    assert t.grad is not None
    assert t.grad.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_importing_the_package_needs_numpy_alone() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import axone.autograd; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"axone", "numpy"}
