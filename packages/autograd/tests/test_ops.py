"""Table of the differentiable operations: each row goes through all generic tests. An operation without a row fails."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import axone.autograd as ag
from axone.autograd import Tensor, no_grad, ops
from axone.autograd.methods import METHODS
from axone.autograd.ops import NONDIFFERENTIABLE
from axone.autograd.testing import check_grads

Arrays = Sequence[Any]


@dataclass(frozen=True)
class Case:
    """One call of an operation: the shapes of the differentiable inputs, and the other arguments."""

    shapes: tuple[tuple[int, ...], ...]
    first: tuple[Any, ...] = ()  # before the inputs: subscripts, a mask
    options: dict[str, Any] = field(default_factory=dict)


def case(*shapes: tuple[int, ...], first: tuple[Any, ...] = (), **options: Any) -> Case:
    return Case(shapes, first, options)


@dataclass(frozen=True)
class Row:
    """An operation and the data that the generic tests need."""

    name: str
    cases: tuple[Case, ...]
    reference: Callable[..., Any] | None = None  # by default NumPy's function of the same name
    domain: tuple[float, float] = (-2.0, 2.0)
    analytic: bool = True  # whether a complex step passes through it
    sequence: bool = False  # whether it takes its inputs as one list
    tolerance: float = 1e-13  # relative, in float64, between it and its reference

    def call(self, case: Case, inputs: Sequence[Any]) -> Any:
        arguments = (list(inputs),) if self.sequence else tuple(inputs)
        return getattr(ops, self.name)(*case.first, *arguments, **case.options)

    def call_with(self, case: Case, *inputs: Tensor) -> Any:
        return self.call(case, inputs)

    def expect(self, case: Case, arrays: Arrays) -> Any:
        arguments = (list(arrays),) if self.sequence else tuple(arrays)
        reference = self.reference or getattr(np, self.name)
        return reference(*case.first, *arguments, **case.options)


UNARY = (case((2, 3)), case(()), case((0, 3)), case((1,)))
BINARY = (
    case((2, 3), (2, 3)), case((), ()), case((2, 3), ()), case((3,), (2, 3)), case((2, 1), (1, 3)),
    case((0, 3), (1, 3)), case((1,), (1,)),
)  # fmt: skip
REDUCED = (
    case((2, 3)), case((2, 3), axis=0), case((2, 3), axis=-1, keepdims=True), case((2, 3, 4), axis=(0, -1)),
    case((2, 3), axis=None, keepdims=True), case((2, 3, 4), axis=(1, 2), keepdims=True), case(()), case((1,)),
)  # fmt: skip
EMPTY_SUM = (case((0, 3)), case((0, 3), axis=0))
ALONG = (case((2, 3)), case((2, 3), axis=0), case((2, 3, 2), axis=1), case((1,)), case((0, 3)))
MASK = np.array([[True, False, True], [False, True, True]])


def softmax(x: NDArray[Any], axis: Any = -1) -> NDArray[Any]:
    e = np.exp(x)
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def logsumexp(x: NDArray[Any], axis: Any = -1, *, keepdims: bool = False) -> Any:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


TABLE = [
    Row("abs", UNARY, analytic=False),
    Row("add", BINARY),
    Row("astype", (case((2, 3), dtype=np.float64), case((), dtype=np.float64)), lambda x, dtype: x.astype(dtype), analytic=False),
    Row("broadcast_to", (case((3,), shape=(2, 3)), case((), shape=4), case((2, 1), shape=(0, 2, 3)))),
    Row("clip", (*(Case(c.shapes, (), {"a_min": -1.0, "a_max": 1.0}) for c in UNARY), case((2, 3), a_min=None, a_max=0.5)), analytic=False),
    Row("concatenate", (case((2, 3), (4, 3)), case((2, 3), (2, 0), (2, 1), axis=-1), case((2,), (1, 3), axis=None)), sequence=True),
    Row("copy", UNARY),
    Row("cos", UNARY),
    Row("cumsum", (case((2, 3)), case((2, 3), axis=0), case((2, 3), axis=-1), case((0, 3), axis=1), case((1,)))),
    Row("divide", BINARY, domain=(0.5, 2.0)),
    Row("dot", tuple(case(*shapes) for shapes in (((3,), (3,)), ((2, 3), (3, 4)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (2, 3, 5)), ((3,), (2, 3, 4)),
        ((), ()), ((), (2, 3)), ((2, 3), ()), ((0, 3), (3, 2)), ((2, 0), (0, 3))))),
    Row("einsum", tuple(case(*shapes, first=(subscripts,)) for subscripts, *shapes in (
        ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 2), (2, 2, 3)),
        ("ij->", (2, 3)), ("ij->ji", (2, 3)), ("ij,kl->ik", (2, 3), (4, 2)), ("ii->i", (3, 3)), ("ii", (3, 3)),
        ("iij,j->i", (2, 2, 3), (3,)), ("...i,...i->...", (2, 3), (4, 2, 3)), ("...ij,jk", (4, 2, 3), (3, 2)),
        ("i,i->", (3,), (1,)), ("i,j,k->ijk", (2,), (3,), (2,)), ("ij,jk->ik", (0, 3), (3, 2)), (",i->i", (), (3,))))),
    Row("exp", UNARY),
    Row("expand_dims", (case((2, 3), axis=1), case((2, 3), axis=(0, -1)), case((), axis=0), case((0, 3), axis=-1))),
    Row("flip", (*UNARY, case((2, 3), axis=-1), case((2, 3, 2), axis=(0, 2)))),
    Row("getitem", tuple(case(shape, index=index) for shape, index in (((3, 4), 1), ((3, 4), (slice(None), -1)), ((3, 4), (Ellipsis, slice(None, None, 2))), ((3, 4), None),
        ((3, 4), np.array([2, 0, 2, -1])), ((3, 4), [0, 0]), ((3, 2, 2), np.array([[0, 1], [1, 1]])),
        ((3, 4), (np.array([0, 1, 0]), np.array([1, -1, 1]))), ((3, 4), (slice(1, None), np.array([1, 1]))),
        ((2, 3), MASK), ((2, 3), (np.array([True, False]), 1)), ((3, 4), (np.array([0, 2])[:, None], np.array([1, 1]))),
        ((0, 3), slice(None)), ((3,), np.array([], dtype=int)), ((600, 2), np.array([3, 599, 3])))), lambda x, index: x[index]),
    Row("hstack", (case((2, 3), (2, 1)), case((2,), (3,)), case((), (2,)), case((2, 1, 3), (2, 2, 3)), case((0,), (3,))), sequence=True),
    Row("leaky_relu", (*UNARY, case((2, 3), negative_slope=0.3)), lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x), analytic=False),
    Row("log", UNARY, domain=(0.2, 3.0)),
    Row("log1p", UNARY, domain=(-0.8, 3.0)),
    Row("log_softmax", ALONG, lambda x, axis=-1: x - logsumexp(x, axis, keepdims=True)),
    Row("logsumexp", (*REDUCED[:-2], case((0, 3))), logsumexp),
    Row("matmul", tuple(case(*shapes) for shapes in (((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
        ((4, 1, 2, 3), (5, 3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((4, 2, 3), (4, 3, 2)), ((1, 1), (1, 1))))),
    Row("max", REDUCED, analytic=False),
    Row("maximum", BINARY, analytic=False),
    Row("mean", (*REDUCED, case((0, 3), axis=1))),
    Row("min", REDUCED, analytic=False),
    Row("minimum", BINARY, analytic=False),
    Row("multiply", BINARY),
    Row("negative", UNARY),
    Row("norm", (case((3,)), case((2, 3)), case((2, 3, 4)), case((3,), ord=1), case((3,), ord=2), case((3,), ord=np.inf),
        case((2, 3), axis=0), case((2, 3), axis=-1, ord=1, keepdims=True), case((2, 3), axis=1, ord=np.inf),
        case((2, 3), ord="fro"), case((2, 3, 4), axis=(0, -1), keepdims=True), case((0, 3), axis=0), case((1,))), np.linalg.norm, analytic=False),
    Row("outer", (*BINARY, case((2,), (3,)), case((4,), (2, 3)))),
    Row("pad", (case((2, 3), pad_width=1), case((2, 3), pad_width=((1, 0), (2, 1)), constant_values=2.0), case((0, 3), pad_width=1),
        case((3, 4), pad_width=(1, 2), mode="edge"), case((3, 4), pad_width=2, mode="reflect"),
        case((3, 4), pad_width=((1, 2), (0, 3)), mode="symmetric"), case((3,), pad_width=(4, 5), mode="wrap"))),
    Row("positive", UNARY),
    Row("power", BINARY, domain=(0.3, 2.0)),
    Row("prod", (*REDUCED, *EMPTY_SUM, case((0, 3), axis=1), case((4, 3), axis=0))),
    Row("ravel", UNARY),
    Row("relu", UNARY, lambda x: np.maximum(x, 0), analytic=False),
    Row("remainder", BINARY, domain=(1.05, 2.0), analytic=False),
    Row("repeat", (case((2, 3), repeats=2), case((2, 3), repeats=2, axis=0), case((2, 3), repeats=[2, 0, 1], axis=-1), case((), repeats=3),
        case((0, 3), repeats=2, axis=1), case((4,), repeats=0))),
    Row("reshape", tuple(case(shape, shape=after) for shape, after in (((2, 3), (3, 2)), ((2, 3), -1), ((), (1, 1)), ((0, 3), (3, 0)))), lambda x, shape: x.reshape(shape)),  # shape= came with NumPy 2.1
    Row("roll", (case((2, 3), shift=2), case((2, 3), shift=1, axis=-1), case((2, 3), shift=(1, -1), axis=(0, 1)), case((0, 3), shift=1), case((), shift=1))),
    Row("sigmoid", UNARY, lambda x: 1 / (1 + np.exp(-x)), analytic=False),
    Row("sin", UNARY),
    Row("softmax", ALONG, softmax),
    Row("split", (case((6, 2), indices_or_sections=3), case((2, 6), indices_or_sections=(1, 4), axis=-1),
        case((0, 3), indices_or_sections=2), case((4,), indices_or_sections=1))),
    Row("sqrt", UNARY, domain=(0.2, 3.0)),
    Row("square", UNARY),
    Row("squeeze", (case((1, 3, 1)), case((1, 3, 1), axis=0), case((1, 3, 1), axis=(0, -1)), case(()), case((0, 1)))),
    Row("stack", (case((2, 3), (2, 3)), case((2, 3), (2, 3), axis=-1), case((), ()), case((0, 3), axis=1)), sequence=True),
    Row("std", (*REDUCED[:-2], case((2, 3), axis=1, ddof=1), case((0, 3), axis=1))),
    Row("subtract", BINARY),
    Row("sum", (*REDUCED, *EMPTY_SUM)),
    Row("swapaxes", (case((2, 3), axis1=0, axis2=1), case((2, 3, 4), axis1=-1, axis2=0), case((0, 3), axis1=0, axis2=1))),
    Row("take", tuple(case(shape, indices=indices, axis=axis) for shape, indices, axis in (
        ((3, 4), [0, 5, -1, 5], None), ((3, 4), [[0, 2], [2, 2]], 0), ((3, 4), [1, 1], -1), ((3, 4), 2, 1), ((0, 3), [0, 1], 1)))),
    Row("tanh", UNARY),
    Row("tensordot", (case((2, 3), (2, 3)), case((2, 3), (3, 4), axes=1), case((2,), (3,), axes=0), case((2, 3, 4), (4, 2, 5), axes=((0, -1), (1, 0))),
        case((2, 3, 4), (4, 2, 5), axes=((-1, 0), (0, 1))), case((2, 3), (3, 2), axes=(0, 1)), case((0, 3), (3, 2), axes=1))),
    Row("transpose", (*UNARY, case((2, 3, 4)), case((2, 3, 4), axes=(1, -1, 0)))),
    Row("tril", (case((3, 3)), case((2, 3, 4), k=1), case((0, 3)))),
    Row("triu", (case((3, 3)), case((2, 3, 4), k=-1), case((0, 3)))),
    Row("var", (*REDUCED, case((2, 3), axis=1, ddof=1), case((0, 3), axis=1))),
    Row("vstack", (case((2, 3), (1, 3)), case((3,), (3,)), case((3,), (2, 3)), case((), ()), case((0, 3), (1, 3))), sequence=True),
    Row("where", (case((2, 3), (2, 3), first=(MASK,)), case((), (3,), first=(MASK,)), case((0, 3), (3,), first=(True,)))),
]  # fmt: skip

ROWS = {row.name: row for row in TABLE}
every_row = pytest.mark.parametrize("row", TABLE, ids=list(ROWS))


def rows(condition: Callable[[Row], bool]) -> pytest.MarkDecorator:
    """Parametrize a test by the rows for which a condition holds."""
    chosen = [row for row in TABLE if condition(row)]
    return pytest.mark.parametrize("row", chosen, ids=[row.name for row in chosen])


def points(row: Row, case: Case, dtype: Any = np.float64, seed: int = 0) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(*row.domain, size=shape).astype(dtype) for shape in case.shapes]


def tensors(arrays: Arrays) -> list[Tensor]:
    return [Tensor(array.copy(), requires_grad=True) for array in arrays]


def buffer_of(tensor: Tensor) -> NDArray[Any] | None:
    """Return the gradient's array without reading `grad`, which would count as a write."""
    assert tensor._leaf is not None
    return tensor._leaf.gradient


def outputs_of(result: Any) -> list[Tensor]:
    return result if isinstance(result, list) else [result]


def gradients(row: Row, case: Case, leaves: Sequence[Tensor]) -> list[NDArray[Any] | None]:
    """Run a backward pass from every output, with a different weight for each element."""
    outputs = outputs_of(row.call(case, leaves))
    for output in outputs:  # of one operation, so that no part of the graph is shared
        output.backward(np.linspace(1, 2, output.size, dtype=output.dtype).reshape(output.shape))
    return [leaf.grad for leaf in leaves]


def assert_same(found: Sequence[NDArray[Any] | None], expected: Sequence[NDArray[Any] | None], rtol: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_every_public_operation_has_a_row() -> None:
    assert sorted([*ROWS, *NONDIFFERENTIABLE]) == sorted(ops.__all__)
    assert set(ops.__all__) - {"getitem"} <= set(ag.__all__)
    assert all(row.cases for row in TABLE)


@every_row
def test_forward(row: Row) -> None:
    for case in row.cases:
        arrays = points(row, case)
        outputs = outputs_of(row.call(case, tensors(arrays)))
        expected = row.expect(case, arrays)
        for output, array in zip(outputs, expected if row.name == "split" else [expected], strict=True):
            assert output.shape == np.shape(array)
            assert type(output.data) is np.ndarray
            np.testing.assert_allclose(output.data, array, rtol=row.tolerance, atol=row.tolerance)


@every_row
def test_gradient_by_differences(row: Row) -> None:
    for case in row.cases:
        check_grads(partial(row.call_with, case), points(row, case))


@rows(lambda row: row.analytic)
def test_gradient_by_the_complex_step(row: Row) -> None:
    for case in row.cases:
        check_grads(partial(row.call_with, case), points(row, case), complex_step=True)


@rows(lambda row: len(row.cases[0].shapes) > 1 and not row.sequence)
def test_one_tensor_as_several_inputs(row: Row) -> None:
    case = next(c for c in row.cases if len(set(c.shapes)) == 1 or row.name in {"matmul", "einsum"})
    shape = (3, 3) if row.name in {"matmul", "einsum", "dot"} else case.shapes[0]
    x = points(row, Case((shape,)))
    check_grads(lambda x: row.call(case, (x, x)), x)


@every_row
def test_non_contiguous_inputs(row: Row) -> None:
    for case in row.cases:
        arrays = points(row, case)
        strided = []
        for array in arrays:
            twice = np.zeros((*array.shape[::-1], 2))
            view = twice[..., 0].T
            view[...] = array
            strided.append(view)
        leaves = [Tensor(view, requires_grad=True) for view in strided]
        assert_same(gradients(row, case, leaves), gradients(row, case, tensors(arrays)), row.tolerance)


@every_row
def test_float32_is_kept(row: Row) -> None:
    for case in row.cases:
        leaves = tensors(points(row, case, np.float32))
        outputs = outputs_of(row.call(case, leaves))
        expected = case.options.get("dtype", np.float32)
        assert {output.dtype for output in outputs} == {np.dtype(expected)}
        for gradient in gradients(row, case, leaves):
            assert gradient is not None
            assert gradient.dtype == np.float32


@every_row
def test_inputs_and_gradients_are_not_written_to(row: Row) -> None:
    for case in row.cases:
        leaves = tensors(points(row, case))
        before = [leaf.data.copy() for leaf in leaves]
        for output in outputs_of(row.call(case, leaves)):
            seed = np.full(output.shape, 0.5)
            seed.flags.writeable = False
            output.backward(seed)
        for leaf, array in zip(leaves, before):
            np.testing.assert_array_equal(leaf.data, array)


@every_row
def test_nothing_is_recorded_under_no_grad(row: Row) -> None:
    for case in row.cases:
        with no_grad():
            outputs = outputs_of(row.call(case, tensors(points(row, case))))
        assert not any(output.requires_grad or output._node for output in outputs)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@every_row
def test_the_graph_is_freed(row: Row, no_collector: None) -> None:
    for case in row.cases:
        leaves = tensors(points(row, case))
        for consume in (False, True):
            outputs = outputs_of(row.call(case, leaves))
            alive = [weakref.ref(output._node) for output in outputs] + [weakref.ref(output) for output in outputs]
            while outputs:
                output = outputs.pop()
                if consume:
                    output.backward(np.ones(output.shape))
                del output
            assert not any(reference() for reference in alive)
            with no_grad():
                for leaf in leaves:
                    leaf[...] = leaf.data  # refused while a graph holds it


@every_row
def test_gradients_are_equal_in_new_bound_and_used_buffers(row: Row) -> None:
    for case in row.cases:
        arrays = points(row, case)
        fresh = tensors(arrays)
        expected = gradients(row, case, fresh)
        if row.name == "split":
            continue  # each part is a gradient of its own: the second is added to the first
        bound, used = tensors(arrays), tensors(arrays)
        for leaf in (*bound, *used):
            leaf.grad = np.full(leaf.shape, np.nan)
            leaf.zero_grad()
        buffers = [buffer_of(leaf) for leaf in bound]
        gradients(row, case, bound)  # overwrites
        assert all(buffer_of(leaf) is buffer for leaf, buffer in zip(bound, buffers))
        assert_same([leaf.grad for leaf in bound], expected, 0)
        for leaf in used:
            assert leaf.grad is not None  # reading it makes it count as used
            leaf.grad += 1
        gradients(row, case, used)  # adds
        assert_same([leaf.grad for leaf in used], [None if g is None else g + 1 for g in expected], 1e-14)


@rows(lambda row: len(row.cases[0].shapes) > 1)
def test_each_input_alone_gets_the_same_gradient(row: Row) -> None:
    for case in row.cases:
        arrays = points(row, case)
        together = gradients(row, case, tensors(arrays))
        for k, expected in enumerate(together):
            leaves = [Tensor(array.copy(), requires_grad=j == k) for j, array in enumerate(arrays)]
            found = gradients(row, case, leaves)
            assert_same([found[k]], [expected], 0)
            assert all(g is None for j, g in enumerate(found) if j != k)


@rows(lambda row: hasattr(np, row.name))
def test_the_function_of_numpy_calls_the_operation(row: Row) -> None:
    case = row.cases[0]
    leaves = tensors(points(row, case))
    results = outputs_of(row.expect(case, leaves) if row.reference is None else row.call(case, leaves))
    assert all(type(result) is Tensor and result._node is not None for result in results)
    assert {result._node.name for result in results if result._node} == {row.name}


@pytest.mark.parametrize("name", [name for name in METHODS if name in ROWS])
def test_methods_are_the_operations(name: str) -> None:
    row = ROWS[name]
    case = row.cases[0]
    leaves = tensors(points(row, case))
    options = {k.removeprefix("a_"): v for k, v in case.options.items()} if name == "clip" else dict(case.options)
    positional = (options.pop("shape"),) if name == "reshape" else ()
    result = getattr(leaves[0], name)(*leaves[1:], *positional, **options)
    np.testing.assert_array_equal(result.data, row.call(case, leaves).data)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reductions_over_any_axes(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple))
    axes = st.integers(-len(shape), len(shape) - 1)
    unique = st.lists(axes, min_size=1, unique_by=lambda axis: axis % len(shape)).map(tuple)
    axis = data.draw(st.none() | axes | unique)
    row = ROWS[data.draw(st.sampled_from(["sum", "prod", "mean", "var", "max", "min", "logsumexp"]))]
    case = Case((shape,), options={"axis": axis, "keepdims": data.draw(st.booleans())})
    x = points(row, case)
    np.testing.assert_allclose(row.call(case, tensors(x)).data, row.expect(case, x), rtol=1e-12, atol=1e-12)
