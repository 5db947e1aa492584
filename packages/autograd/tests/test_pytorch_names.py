"""Names of PyTorch that do not exist here: each error names the one that does."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import axone.autograd
from axone.autograd import Tensor, methods, tensor
from axone.autograd.pytorch_names import FUNCTIONS, METHODS

ag: Any = axone.autograd  # mypy would report each misuse below
x: Any = Tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda: x.view(4), "Tensor has no attribute 'view': use t.reshape(shape)"),
        (lambda: x.unsqueeze(0), "Tensor has no attribute 'unsqueeze': use axone.autograd.expand_dims(t, axis)"),
        (lambda: x.dim, "Tensor has no attribute 'dim': use t.ndim"),
        (lambda: x.sqrt, "Tensor has no attribute 'sqrt': use axone.autograd.sqrt(t)"),
        (lambda: x.softmax, "Tensor has no attribute 'softmax': use axone.autograd.softmax(t)"),
        (lambda: x.split, "Tensor has no attribute 'split': use axone.autograd.split(t, parts, axis=...), where parts is the number of parts and not their size"),
        (lambda: ag.long, "module 'axone.autograd' has no attribute 'long': use numpy.int64"),
        (lambda: x.add_(1), "Tensor has no attribute 'add_': use t[...] = values, inside no_grad()"),
        (lambda: x.cuda, "Tensor has no attribute 'cuda': Axone computes on the CPU"),
        (lambda: x.sum_of_all, "'Tensor' object has no attribute 'sum_of_all'"),
        (lambda: Tensor.view, "Tensor has no attribute 'view': use t.reshape(shape)"),  # type: ignore[attr-defined]
        (lambda: ag.cat([x, x]), "module 'axone.autograd' has no attribute 'cat': use axone.autograd.concatenate(tensors, axis=...)"),
        (lambda: ag.zeros(3), "module 'axone.autograd' has no attribute 'zeros': use Tensor(numpy.zeros(shape))"),
        (lambda: ag.fft, "module 'axone.autograd' has no attribute 'fft'"),
    ],
)  # fmt: skip
def test_attributes(misuse: Callable[[], object], message: str) -> None:
    with pytest.raises(AttributeError) as raised:
        misuse()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (x.size, "Tensor.size is a number here, the number of elements: use t.shape, or t.shape[axis]"),
        (lambda: x.size(0), "Tensor.size is a number here, the number of elements: use t.shape, or t.shape[axis]"),
        (lambda: x.sum(dim=0), "sum has no argument 'dim': use axis"),
        (lambda: x.mean(axis=0, keepdim=True), "mean has no argument 'keepdim': use keepdims"),
        (lambda: x.var(unbiased=False), "var has no argument 'unbiased': use ddof"),
        (lambda: ag.softmax(x, dim=-1), "softmax has no argument 'dim': use axis"),
        (lambda: ag.concatenate([x, x], dim=1), "concatenate has no argument 'dim': use axis"),
        (lambda: ag.clip(x, min=0), "clip has no argument 'min': use a_min"),
        (lambda: ag.roll(x, 1, dims=1), "roll has no argument 'dims': use axis"),
        (lambda: x.swapaxes(0, 1, dim0=1), "swapaxes has no argument 'dim0': use axis1"),
        (lambda: x.sum(out=None), "sum() got an unexpected keyword argument 'out'"),
    ],
)  # fmt: skip
def test_arguments(misuse: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError) as raised:
        misuse()
    assert str(raised.value) == message


def takes_axis(function: object) -> bool:
    return inspect.isfunction(function) and "axis" in inspect.signature(function).parameters


@pytest.mark.parametrize("name", [name for name in ag.__all__ if takes_axis(getattr(ag, name))])
def test_every_function_with_an_axis_refuses_dim(name: str) -> None:
    parameters = inspect.signature(getattr(ag, name)).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(TypeError, match=f"^{name} has no argument 'dim': use axis$"):
        getattr(ag, name)(*[1] * len(required), dim=0)
    if "axis" in required:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'axis'"):
            getattr(ag, name)(*[1] * (len(required) - 1), dim=0)


def test_size_is_an_integer() -> None:
    assert x.size == 4
    assert isinstance(x.size, int)
    assert repr(x.size) == "4"
    np.testing.assert_array_equal(np.zeros(x.size), np.zeros(4))


def test_no_hint_replaces_an_existing_name() -> None:
    assert not [name for name in METHODS if hasattr(Tensor, name) or name in dir(x)]
    assert all(name in dir(x) for name in ("reshape", "sum", "data", "backward"))
    assert not [name for name in FUNCTIONS if name in ag.__all__]


def test_every_hint_names_what_exists() -> None:
    for hint in {*METHODS.values(), *FUNCTIONS.values()}:
        for name in re.findall(r"\bt\.(\w+)", hint):
            assert hasattr(Tensor, name) or name in Tensor.__slots__, hint
        for name in re.findall(r"\baxone\.autograd\.(\w+)", hint):
            assert hasattr(ag, name), hint
        for name in re.findall(r"\bnumpy\.(\w+)", hint):
            assert hasattr(np, name), hint


@pytest.mark.parametrize("module", [axone.autograd, methods, tensor])
def test_type_checkers_do_not_see_a_fallback_for_missing_attributes(module: ModuleType) -> None:
    source = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
    blocks = [node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    inside = {id(node) for block in blocks for other in block.orelse for node in ast.walk(other)}
    visible = [node for node in ast.walk(source) if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]
    assert all(id(node) in inside for node in visible)


def test_copies_and_probes_of_attributes_work() -> None:
    assert not hasattr(x, "view")
    assert not hasattr(x, "__array_interface__")
    assert getattr(x, "device", None) is None
    assert copy.deepcopy(x).tolist() == pickle.loads(pickle.dumps(x)).tolist() == x.tolist()  # noqa: S301 - of this test
