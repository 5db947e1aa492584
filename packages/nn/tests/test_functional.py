"""Every fused operation, one row each: compared with its plain composition, and run through all generic tests."""

from __future__ import annotations

import gc
import math
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.autograd.testing import check_grads
from axone.nn import SharedPrefix, functional
from axone.nn.functional import plain

Shape = tuple[int, ...]
TOLERANCE = {np.float32: 4e-6, np.float64: 1e-13}


@dataclass(frozen=True)
class Case:
    """One call of an operation: the shapes of its Tensors, and its other arguments."""

    shapes: tuple[Shape, ...]
    first: tuple[Any, ...] = ()  # before the Tensors
    then: tuple[Any, ...] = ()  # after them
    options: Callable[[], dict[str, Any]] = field(default=dict)

    def inputs(self, dtype: Any = np.float64, scale: float = 1.0) -> list[NDArray[Any]]:
        rng = np.random.default_rng(len(self.shapes))
        return [(scale * rng.standard_normal(shape)).astype(dtype) for shape in self.shapes]

    def call(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return function(*self.first, *inputs, *self.then, **self.options())


def case(*shapes: Shape, first: tuple[Any, ...] = (), then: tuple[Any, ...] = (), **options: Any) -> Case:
    return Case(shapes, first, then, lambda: options)


def mask(*shape: int, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < 0.6


def ids(*shape: int, count: int = 5) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, count, shape)


ANGLES = np.random.default_rng(2).uniform(0, 6, (2, 5, 3))  # (B, T, D / 2)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
ELEMENTWISE = (case((2, 3)), case(()), case((0, 3)), case((2, 3, 4)))
IGNORED = np.array([[1, -1, 0], [3, 2, -1]])

TABLE: dict[str, tuple[Case, ...]] = {
    "apply_rotary": (
        case((2, 4, 5, 6), then=(COS[0], SIN[0])), case((2, 4, 5, 6), then=(COS[:, None], SIN[:, None])),
        case((5, 6), then=(COS[0], SIN[0])), case((2, 0, 5, 6), then=(COS[0], SIN[0])),
    ),
    "cross_entropy": (
        case((6, 5), then=(ids(6),)), case((2, 3, 5), then=(ids(2, 3),)), case((5,), then=(ids(),)),
        case((2, 3, 5), then=(IGNORED,), ignore_index=-1), case((2, 3, 5), then=(ids(2, 3),), label_smoothing=0.1),
        case((2, 3, 5), then=(IGNORED,), ignore_index=-1, label_smoothing=0.3),
    ),
    "dropout": (*(Case((shape,), then=(0.3,), options=lambda: {"rng": np.random.default_rng(3)}) for shape in ((40, 30), (), (0, 2))),),
    "embedding": (
        case((5, 3), first=(ids(4, 6),)), case((5, 3), first=(np.arange(2, 5, dtype=np.uint8),)),
        case((5, 3), first=(ids(),)), case((5, 3), first=(ids(0, 2),)), case((50, 2), first=(ids(300, count=50),)),
    ),
    "gelu": ELEMENTWISE,
    "layer_norm": (
        case((2, 3, 8), (8,), (8,)), case((3, 8), (8,)), case((8,), (8,), (8,)), case((0, 8), (8,), (8,)),
        case((3, 8), (8,), (8,), eps=0.1), case((3, 1), (1,), (1,), eps=0.1),
    ),
    "linear": (
        case((2, 3, 4), (5, 4), (5,)), case((3, 4), (5, 4)), case((4,), (5, 4), (5,)), case((0, 4), (5, 4), (5,)),
    ),
    "linear_cross_entropy": (
        case((2, 3, 4), (7, 4), then=(ids(2, 3),)), case((6, 4), (5, 4), then=(ids(6),), rows=1),
        case((6, 4), (5, 4), then=(ids(6),), rows=4), case((4,), (5, 4), then=(ids(),)), case((6, 1), (5, 1), then=(ids(6),), rows=100),
    ),
    "lora_linear": (
        case((2, 3, 4), (5, 4), (2, 4), (5, 2), (5,), scale=1.5), case((3, 4), (5, 4), (1, 4), (5, 1)),
        case((4,), (5, 4), (2, 4), (5, 2), (5,)), case((0, 4), (5, 4), (2, 4), (5, 2)), case((150, 4), (5, 4), (6, 4), (5, 6), scale=0.5),
        Case(((70, 4), (5, 4), (2, 4), (5, 2)), options=lambda: {"dropout": 0.3, "rng": np.random.default_rng(3), "scale": 2.0}),
    ),
    "mse_loss": (case((2, 3), (2, 3)), case((), ()), case((0, 3), (0, 3)), case((2, 3, 4), (2, 3, 4))),
    "packed_attention": (
        case((2, 5, 36), then=(2, 2)), case((2, 5, 48), then=(4, 2)), case((2, 5, 36), then=(2, 2), causal=False),
        case((2, 5, 36), then=(4, 1), mask=mask(2, 4, 5, 5)), case((2, 5, 36), then=(4, 1), mask=mask(2, 1, 1, 5)),
        case((2, 5, 36), then=(2, 2), mask=mask(5, 5), causal=False), case((2, 1, 36), then=(2, 2)),
        case((0, 5, 36), then=(2, 2)), case((1, 70, 6), then=(1, 1)), case((2, 5, 36), then=(4, 1), scale=1.5),
    ),
    "packed_rms_norm": (case((2, 5, 36), (6,), (6,), then=(2, 2)), case((2, 5, 48), (6,), (6,), then=(4, 2), eps=0.1)),
    "packed_rms_norm_rotary": (
        case((2, 5, 36), (6,), (6,), then=(COS[0], SIN[0], 2, 2)), case((2, 5, 48), (6,), (6,), then=(COS, SIN, 4, 2), eps=0.1),
        case((0, 5, 36), (6,), (6,), then=(COS[0], SIN[0], 2, 2)), case((2, 0, 36), (6,), (6,), then=(COS[0, :0], SIN[0, :0], 4, 1)),
    ),
    "packed_rotary": (
        case((2, 5, 36), then=(COS[0], SIN[0], 2, 2)), case((2, 5, 48), then=(COS, SIN, 4, 2)),
    ),
    "prefix_attention": (
        case((1, 11, 36), then=(2, 2, SharedPrefix(3, 2))), case((1, 9, 36), then=(4, 1, SharedPrefix(1, 4)), scale=1.5),
        case((1, 14, 48), then=(4, 2, SharedPrefix(2, 3, mask(3, 1, 4, 4)))),
        case((1, 11, 36), then=(4, 1, SharedPrefix(3, 2, mask(2, 4, 4, 4)))), case((1, 72, 6), then=(1, 1, SharedPrefix(2, 1))),
    ),
    "relu2": ELEMENTWISE,
    "rms_norm": (case((2, 3, 8), (8,)), case((8,), (8,)), case((0, 8), (8,)), case((3, 8), (8,), eps=0.1)),
    "scaled_dot_product_attention": (
        case((2, 4, 5, 6), (2, 4, 7, 6), (2, 4, 7, 3)), case((2, 4, 5, 6), (2, 2, 5, 6), (2, 2, 5, 6), causal=True),
        case((2, 4, 5, 6), (2, 4, 7, 6), (2, 4, 7, 6), causal=True), case((1, 2, 7, 6), (1, 1, 4, 6), (1, 1, 4, 6), causal=True),
        case((2, 4, 5, 6), (2, 1, 7, 6), (2, 1, 7, 6), mask=mask(2, 4, 5, 7)),
        case((2, 4, 5, 6), (2, 4, 5, 6), (2, 4, 5, 6), mask=mask(2, 1, 1, 5), causal=True),
        case((1, 1, 70, 2), (1, 1, 130, 2), (1, 1, 130, 2), causal=True), case((1, 2, 70, 2), (1, 1, 3, 2), (1, 1, 3, 2)),
        case((2, 4, 5, 6), (2, 2, 5, 6), (2, 2, 5, 6), scale=1.0), case((1, 1, 70, 2), (1, 1, 70, 2), (1, 1, 70, 2), scale=0.3),
    ),
    "silu": ELEMENTWISE,
    "softmax": (
        case((2, 3)), case((2, 3, 4)), case((5,)), case((0, 3)), case((2, 3, 4), axis=2), case((2, 3, 4), axis=1), case((3, 4), axis=0),
    ),
    "swiglu": (case((2, 3), (2, 3)), case((), ()), case((0, 3), (0, 3))),
}  # fmt: skip

CASES = [pytest.param(name, c, id=f"{name}-{i}") for name, cases in TABLE.items() for i, c in enumerate(cases)]
FIRST = [pytest.param(name, cases[0], id=name) for name, cases in TABLE.items()]
HELPERS = {"plain", "relu"}  # relu is that of axone.autograd


def fused(name: str) -> Callable[..., Tensor]:
    return getattr(functional, name)  # type: ignore[no-any-return]  # looked up by name


def composed(name: str) -> Callable[..., Tensor]:
    return getattr(plain, name)  # type: ignore[no-any-return]  # looked up by name


def run(
    function: Callable[..., Tensor], c: Case, arrays: list[NDArray[Any]]
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return the output and the gradients of all inputs, for a random gradient of the output."""
    leaves = [Tensor(array, requires_grad=True) for array in arrays]
    out = c.call(function, *leaves)
    out.backward(np.random.default_rng(5).standard_normal(out.shape))
    return out.data, [np.zeros_like(leaf.data) if leaf.grad is None else leaf.grad for leaf in leaves]


def close(found: NDArray[Any], expected: NDArray[Any], dtype: Any) -> None:
    """Compare with a tolerance relative to the largest element, because sums are rounded in different orders."""
    assert found.shape == expected.shape
    assert found.dtype == dtype
    scale = float(np.abs(expected).max(initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def test_every_public_operation_has_a_row_and_a_plain_composition() -> None:
    assert set(functional.__all__) - HELPERS == set(TABLE)
    assert set(TABLE) <= set(vars(plain))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "c"), CASES)
def test_fused_equals_plain(name: str, c: Case, dtype: Any) -> None:
    arrays = c.inputs(dtype)
    out, gradients = run(fused(name), c, arrays)
    expected, expected_gradients = run(composed(name), c, [array.copy() for array in arrays])
    close(out, expected, dtype)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        close(gradient, expected_gradient, dtype)


@pytest.mark.parametrize(("name", "c"), CASES)
def test_gradients_match_finite_differences(name: str, c: Case) -> None:
    check_grads(lambda *inputs: c.call(fused(name), *inputs), c.inputs())


@pytest.mark.parametrize(("name", "c"), FIRST)
def test_any_memory_layout_is_accepted(name: str, c: Case) -> None:
    arrays = c.inputs()
    strided = [np.asfortranarray(np.repeat(array, 2, axis=-1))[..., ::2] for array in arrays]
    expected, expected_gradients = run(fused(name), c, arrays)
    out, gradients = run(fused(name), c, strided)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "c"), FIRST)
def test_inputs_and_the_output_gradient_are_not_modified(name: str, c: Case) -> None:
    arrays = c.inputs()
    leaves = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    out = c.call(fused(name), *leaves)
    for leaf in leaves:
        leaf.data.flags.writeable = False
    gradient = np.full(out.shape, 2.0)
    gradient.flags.writeable = False
    out.backward(gradient)
    for leaf, array in zip(leaves, arrays, strict=True):
        np.testing.assert_array_equal(leaf.data, array)


@pytest.mark.parametrize(("name", "c"), FIRST)
def test_nothing_is_recorded_under_no_grad(name: str, c: Case) -> None:
    with no_grad():
        assert not c.call(fused(name), *(Tensor(array, requires_grad=True) for array in c.inputs())).requires_grad


@pytest.mark.parametrize(("name", "c"), FIRST)
def test_the_graph_is_freed_without_the_garbage_collector(name: str, c: Case) -> None:
    leaves = [Tensor(array, requires_grad=True) for array in c.inputs()]
    out = c.call(fused(name), *leaves)
    watched = [weakref.ref(out), *(weakref.ref(leaf) for leaf in leaves)]
    gc.disable()
    try:
        del out, leaves
        assert [reference() for reference in watched] == [None] * len(watched)
    finally:
        gc.enable()


@pytest.mark.parametrize(("name", "c"), [p for p in FIRST if len(p.values[1].shapes) > 1])  # type: ignore[union-attr]  # the second is a Case
def test_two_dtypes_are_an_error(name: str, c: Case) -> None:
    arrays = c.inputs()
    arrays[-1] = arrays[-1].astype(np.float32)
    with pytest.raises(TypeError, match=r"one dtype, got float64 and float32"):
        c.call(fused(name), *(Tensor(array) for array in arrays))


@pytest.mark.parametrize(("name", "c"), [p for p in FIRST if p.values[0] not in {"embedding", "cross_entropy"}])
def test_arrays_instead_of_tensors_are_an_error_that_names_the_operation(name: str, c: Case) -> None:
    with pytest.raises(TypeError, match=rf"{name} needs Tensors, got ndarray: wrap it"):
        fused(name)(*c.first, *c.inputs(), *c.then, **c.options())


def test_attention_to_no_key_gives_zeros() -> None:
    c = case((1, 1, 3, 2), (1, 1, 0, 2), (1, 1, 0, 2))
    out, gradients = run(functional.scaled_dot_product_attention, c, c.inputs())
    np.testing.assert_array_equal(out, np.zeros((1, 1, 3, 2)))
    np.testing.assert_array_equal(gradients[0], np.zeros((1, 1, 3, 2)))
    c = case((2, 0, 36), then=(2, 2))
    out, gradients = run(functional.packed_attention, c, c.inputs())
    assert out.shape == (2, 0, 12)
    assert gradients[0].shape == (2, 0, 36)


def points(n: int) -> Iterator[float]:
    return iter(np.linspace(-9, 9, n).tolist())


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 3e-16)])
def test_exact_gelu_is_x_times_the_normal_distribution(dtype: Any, tolerance: float) -> None:
    x = np.array(list(points(401)))
    expected = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in points(401)]
    y = functional.gelu(Tensor(x.astype(dtype)), approximate="none").data
    np.testing.assert_allclose(y, expected, rtol=5 * tolerance, atol=tolerance)


def test_exact_gelu_matches_finite_differences() -> None:
    check_grads(lambda x: functional.gelu(x, approximate="none"), [np.linspace(-5, 5, 30)])


def test_an_unknown_gelu_approximation_is_an_error() -> None:
    with pytest.raises(ValueError, match=r'approximate \(.erf.\) must be "tanh" or "none"'):
        functional.gelu(Tensor([1.0]), approximate="erf")  # type: ignore[arg-type]  # on purpose


def test_dropout_keeps_the_mean() -> None:
    x = Tensor(np.ones(100_000, np.float32), requires_grad=True)
    y = functional.dropout(x, 0.25, rng=np.random.default_rng(0))
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(y.data.mean() - 1) < 0.01
    y.backward(np.ones_like(y.data))
    np.testing.assert_array_equal(x.grad, y.data)


def test_the_loss_is_zero_if_all_targets_are_ignored() -> None:
    logits = Tensor(np.ones((3, 4), np.float32), requires_grad=True)
    loss = functional.cross_entropy(logits, np.full(3, -100))
    loss.backward()
    assert loss.item() == 0
    np.testing.assert_array_equal(logits.grad, np.zeros((3, 4)))


def test_linear_cross_entropy_checks_shapes_and_targets() -> None:
    x, weight = Tensor(np.zeros((2, 3))), Tensor(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"x of shape \(2, 3\) and targets of shape \(3,\)"):
        functional.linear_cross_entropy(x, weight, np.zeros(3, np.int64))
    with pytest.raises(IndexError, match=r"targets \(0 to 5\) must be from 0 to 4"):
        functional.linear_cross_entropy(x, weight, np.array([0, 5]))


def test_linear_cross_entropy_never_holds_all_logits() -> None:
    x = Tensor(np.ones((64, 4), np.float32), requires_grad=True)
    weight = Tensor(np.ones((3000, 4), np.float32), requires_grad=True)
    tracemalloc.start()
    functional.linear_cross_entropy(x, weight, np.zeros(64, np.int64), rows=2).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 3000 * 4 / 2


def test_a_last_axis_of_length_0_is_an_error() -> None:
    empty, weight = Tensor(np.ones((2, 0))), Tensor(np.ones((3, 0)))
    with pytest.raises(ValueError, match=r"linear needs a last axis of at least 1 element, got shape \(2, 0\)"):
        functional.linear(empty, weight)
    with pytest.raises(ValueError, match=r"layer_norm needs a last axis of at least 1 element, got shape \(2, 0\)"):
        functional.layer_norm(empty, weight[0])


def test_packed_heads_of_other_shapes_are_an_error() -> None:
    qkv, weight = Tensor(np.ones((2, 5, 36))), Tensor(np.ones(6))
    with pytest.raises(ValueError, match=r"packed_rms_norm needs an input of shape \(B, T, 48\), got \(2, 5, 36\)"):
        functional.packed_rms_norm(qkv, weight, weight, 4, 2)
    with pytest.raises(ValueError, match=r"packed_rms_norm needs a weight of shape \(6,\), got \(5,\)"):
        functional.packed_rms_norm(qkv, weight, Tensor(np.ones(5)), 2, 2)
    with pytest.raises(ValueError, match=r"packed_rotary needs an input of shape \(B, 4, 36\), got \(2, 5, 36\)"):
        functional.packed_rotary(qkv, COS[0, :4], SIN[0, :4], 2, 2)


def test_mse_loss_takes_an_array_of_targets_of_the_same_shape() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    loss = functional.mse_loss(x, np.array([0.0, 4.0]))
    loss.backward()
    assert loss.dtype == np.float32
    assert loss.item() == 2.5
    np.testing.assert_array_equal(x.grad, [1.0, -2.0])
    with pytest.raises(ValueError, match=r"predictions and targets of one shape, got \(2,\) and \(2, 1\)"):
        functional.mse_loss(x, np.zeros((2, 1)))
    with pytest.raises(TypeError, match="one dtype"):
        functional.mse_loss(x, Tensor(np.zeros(2)))


def test_an_ignored_row_may_hold_nan() -> None:
    logits = Tensor(np.array([[1.0, 2.0], [np.nan, np.inf]], np.float32), requires_grad=True)
    with np.errstate(invalid="ignore"):
        loss = functional.cross_entropy(logits, np.array([0, -100]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e))
    assert logits.grad is not None
    np.testing.assert_array_equal(logits.grad[1], [0, 0])


def test_embedding_gradients_of_a_table_used_twice_add_up() -> None:
    weight = Tensor(np.zeros((4, 2)), requires_grad=True)
    (
        functional.embedding(np.array([1, 1, 3]), weight).sum() + functional.embedding(np.array([3]), weight).sum()
    ).backward()
    np.testing.assert_array_equal(weight.grad, [[0, 0], [2, 2], [0, 0], [2, 2]])
