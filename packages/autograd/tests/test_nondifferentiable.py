"""Table of the functions without a gradient: each gives NumPy's result for arrays, Tensors and methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import axone.autograd as ag
from axone.autograd import Tensor
from axone.autograd.methods import METHODS
from axone.autograd.ops import NONDIFFERENTIABLE


@dataclass(frozen=True)
class Call:
    """One call: the shapes of the inputs, and the other arguments."""

    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)


def call(*shapes: tuple[int, ...], **options: Any) -> Call:
    return Call(shapes, options)


UNARY = (call((2, 3)), call(()), call((0, 3)), call((1,)))
REDUCED = (
    call((2, 3)), call((2, 3), axis=0), call((2, 3), axis=-1, keepdims=True), call((2, 3, 4), axis=(0, -1)), call(()),
    call((0, 3)),
)  # fmt: skip
INDEX = (call((2, 3)), call((2, 3), axis=0), call((2, 3), axis=-1, keepdims=True), call(()), call((5,), axis=0))
TABLE: dict[str, tuple[Call, ...]] = {
    "all": REDUCED,
    "allclose": (call((2, 3), (2, 3)), call((2, 3), (3,)), call((), ()), call((2, 3), (2, 3), rtol=10.0)),
    "any": REDUCED,
    "argmax": INDEX,
    "argmin": INDEX,
    "argsort": (call((2, 3)), call((2, 3), axis=0), call((2, 3), axis=None), call((0, 3)), call((5,), stable=True)),
    "array_equal": (call((2, 3), (2, 3)), call((2, 3), (3,)), call((), ())),
    "ceil": UNARY,
    "count_nonzero": REDUCED,
    "floor": UNARY,
    "isfinite": UNARY,
    "isinf": UNARY,
    "isnan": UNARY,
    "ndim": UNARY,
    "round": (*UNARY, call((2, 3), decimals=1)),
    "shape": UNARY,
    "sign": UNARY,
    "size": (*UNARY, call((2, 3), axis=1)),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(ag, name) for name in TABLE}
every_name = pytest.mark.parametrize("name", TABLE)


def points(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Return numbers with zeros, infinities and NaN among them."""
    rng = np.random.default_rng(0)
    special = np.array([0.0, np.inf, -np.inf, np.nan, 1.5])
    arrays = [rng.normal(scale=2, size=shape).astype(np.float32) for shape in shapes]
    return [np.where(rng.random(a.shape) < 0.2, rng.choice(special, a.shape), a).astype(np.float32) for a in arrays]


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert not isinstance(found, Tensor)


def test_every_function_has_a_row() -> None:
    assert sorted(TABLE) == sorted(NONDIFFERENTIABLE)


@every_name
def test_the_result_is_that_of_numpy(name: str) -> None:
    for one in TABLE[name]:
        arrays = points(one.shapes)
        expected = getattr(np, name)(*arrays, **one.options)
        inputs = [Tensor(array, requires_grad=True) for array in arrays]
        assert_same(FUNCTIONS[name](*inputs, **one.options), expected)
        assert_same(FUNCTIONS[name](*arrays, **one.options), expected)
        assert_same(getattr(np, name)(*inputs, **one.options), expected)
        if name in METHODS:
            assert_same(getattr(inputs[0], name)(*inputs[1:], **one.options), expected)
        for x, array in zip(inputs, arrays):
            assert x.data is array
            assert x._node is None


@every_name
def test_lists_and_numbers_are_taken_as_float32(name: str) -> None:
    row = np.array([1.25, -2.0], np.float32)
    arguments = 2 if len(TABLE[name][0].shapes) == 2 else 1
    assert_same(FUNCTIONS[name](*[row.tolist()] * arguments), getattr(np, name)(*[row] * arguments))


def test_an_index_can_be_used_as_a_dictionary_key() -> None:
    assert {2: "two"}[ag.Tensor([1.0, 2.0, 5.0]).argmax()] == "two"  # type: ignore[index]  # hash and == of an int


def test_allclose_compares_in_the_dtype_of_the_tensor() -> None:
    assert ag.allclose(Tensor([0.1, 0.2]), np.array([0.1, 0.2]), rtol=0.0, atol=0.0)
