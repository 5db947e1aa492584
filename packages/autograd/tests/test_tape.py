"""The backward pass: gradients it accumulates, memory it frees, misuse it refuses."""

import gc
import sys
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from axone.autograd import Tensor, grad, no_grad
from axone.autograd.extend import Array, Deferred, Part, Product, Rows, Scattered, record
from axone.autograd.testing import check_grads


def test_gradients_of_shared_inputs_add_up() -> None:
    x = Tensor([2.0, 3.0], requires_grad=True)
    y = x + x
    (y * x + x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad, [9.0, 13.0])


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
def test_a_tensor_times_itself(shape: tuple[int, ...]) -> None:
    x = Tensor(np.full(shape, 3.0), requires_grad=True)
    y = x * x
    np.testing.assert_array_equal(y.data, np.full(shape, 9.0))
    y.backward(np.full(shape, 0.5))
    np.testing.assert_array_equal(x.grad, np.full(shape, 3.0))


def test_gradients_of_two_backwards_add_up() -> None:
    x = Tensor(2.0, requires_grad=True)
    for _ in range(2):
        (x * x).backward()
    assert x.grad is not None
    assert x.grad == 8.0


def test_the_two_inputs_of_add_do_not_share_a_gradient() -> None:
    a, b = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    (a + b).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert not np.shares_memory(a.grad, b.grad)


def test_a_refused_second_backward_changes_nothing() -> None:
    x = Tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=r"backward has already consumed 'multiply' of shape"):
        (y + x).backward()
    assert x.grad is not None
    assert x.grad == 4.0


def test_long_chains_do_not_recurse() -> None:
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad is not None
    assert x.grad == 1.0


def test_the_graph_is_freed_without_the_garbage_collector() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    y = (x * x).sum()
    node = weakref.ref(y._node)
    del y
    assert node() is None


def test_grad_leaves_grad_alone() -> None:
    x = Tensor([1.0, 3.0], requires_grad=True)
    y = x * x
    first, second = grad((y * y).sum(), [x, y])
    np.testing.assert_array_equal(first, [4.0, 108.0])
    np.testing.assert_array_equal(second, [2.0, 18.0])
    assert x.grad is None


def test_nothing_is_recorded_under_no_grad() -> None:
    x = Tensor(1.0, requires_grad=True)
    with no_grad():
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,)])
@pytest.mark.parametrize("intermediate", [False, True])
def test_many_gradients_of_one_input_add_up(shape: tuple[int, ...], intermediate: bool) -> None:
    x = Tensor(np.full(shape, 2.0), requires_grad=True)
    y = x * 1 if intermediate else x
    (y + y + y * y + y * y * y - y).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(shape, 1.0 + 4.0 + 12.0))


def test_allocation_grows_linearly_with_the_length_of_a_chain() -> None:
    def blocks(n: int) -> int:
        y = Tensor(1.0, requires_grad=True)
        before = sys.getallocatedblocks()
        for _ in range(n):
            y = y + 1.0
        count = sys.getallocatedblocks() - before
        y.backward()
        return count

    assert blocks(20_000) < 2.1 * blocks(10_000)


def test_training_steps_do_not_leak_memory() -> None:
    w = Tensor(np.ones((4, 4)), requires_grad=True)

    def step() -> None:
        w.zero_grad()
        ((w @ w) * w).sum().backward()

    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            step()
        before = sys.getallocatedblocks()
        for _ in range(10_000):
            step()
        assert sys.getallocatedblocks() - before < 100
    finally:
        gc.enable()


def test_memory_falls_during_the_backward_pass() -> None:
    y = Tensor(np.ones(3), requires_grad=True)
    alive: list[int] = []
    references: list[weakref.ref[np.ndarray]] = []

    def layer(t: Tensor) -> Tensor:
        saved = t.data * 2
        references.append(weakref.ref(saved))

        def vjp(g: Array) -> tuple[Array]:
            alive.append(sum(reference() is not None for reference in references))
            return (g * saved,)

        return record("layer", t.data + 0, (t,), vjp)

    for _ in range(5):
        y = layer(y)
    y.sum().backward()
    assert alive == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("intermediate", [False, True])
@pytest.mark.parametrize(
    ("deferred", "expected"),
    [
        (lambda: Product(np.ones((3, 2)), np.full((2, 2), 2.0)), np.full((3, 2), 4.0)),
        (lambda: Part((slice(1, None), 0), np.array([1.0, 2.0])), [[0, 0], [1, 0], [2, 0]]),
        (lambda: Part(np.array([True, False, True]), np.ones((2, 2))), [[1, 1], [0, 0], [1, 1]]),
        (lambda: Rows(np.array([2, 0, 2]), np.array([[1.0, 2], [3, 4], [5, 6]])), [[3, 4], [0, 0], [6, 8]]),
        (lambda: Rows(np.array([1]), np.array([[1.0, 2]])), [[0, 0], [1, 2], [0, 0]]),
        (lambda: Rows(np.array([], dtype=int), np.empty((0, 2))), np.zeros((3, 2))),
        (lambda: Scattered(np.array([[5, 0], [5, 5]]), np.ones((2, 2))), [[1, 0], [0, 0], [0, 3]]),
    ],
)
def test_a_deferred_gradient_alone_first_and_last(
    deferred: Callable[[], Deferred], expected: object, intermediate: bool
) -> None:
    def apply(t: Tensor, name: str) -> Tensor:
        return record(name, np.zeros(()), (t,), lambda _: (deferred(),))

    alone = np.asarray(expected, dtype=np.float64)
    for before, after in ((0, 0), (1, 0), (0, 1), (2, 1)):
        x = Tensor(np.ones((3, 2)), requires_grad=True)
        y = x * 1 if intermediate else x
        terms = [y.sum()] * before + [apply(y, "deferred")] + [y.sum() for _ in range(after)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        total.backward()
        np.testing.assert_array_equal(x.grad, alone + before + after)
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    twice = apply(x, "first") + apply(x, "second") + x.sum()
    np.testing.assert_array_equal(grad(twice, [x])[0], 2 * alone + 1)


def test_rows_of_a_long_table() -> None:
    rng = np.random.default_rng(0)
    ids, values = rng.integers(0, 1000, size=500), rng.normal(size=(500, 3))
    expected = np.zeros((1000, 3))
    np.add.at(expected, ids, values)
    found = np.full((1000, 3), np.nan)
    Rows(ids, values).write(found)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    Rows(ids, values).add(found)
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-12)


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_an_infinite_gradient_stays_in_its_row(damage: float, row: int) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([0, 2, 4, 2, 0, 4, 2, 0])  # 1 and 3 are not looked up
    values = rng.normal(size=(8, 3)).astype(np.float32)
    values[np.flatnonzero(ids == row)[1], 1] = damage
    found = np.full((5, 3), 7, np.float32)
    Rows(ids, values).write(found)
    np.testing.assert_array_equal(found[[1, 3]], 0)
    expected = np.array([values[ids == number].sum(axis=0) for number in range(5)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    Rows(ids, values).add(found)
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-6)


def test_gradients_whose_squares_overflow_add_up() -> None:
    found = np.empty((2, 1), np.float32)
    Rows(np.array([1, 0, 0]), np.array([[1e30], [2e30], [3e30]], np.float32)).write(found)
    np.testing.assert_allclose(found, [[5e30], [1e30]], rtol=1e-6)


def test_rows_of_an_empty_table() -> None:
    found = np.empty((0, 3), np.float32)
    Rows(np.array([], dtype=int), np.empty((0, 3), np.float32)).write(found)
    assert found.shape == (0, 3)


def test_a_deferred_gradient_is_written_into_the_bound_buffer() -> None:
    flat = np.full(6, np.nan, np.float32)
    w = Tensor(np.ones((2, 3)), requires_grad=True, dtype=np.float32)
    w.grad = flat.reshape(2, 3)
    w.zero_grad()
    (Tensor(np.ones((4, 2)), dtype=np.float32) @ w).sum().backward()
    np.testing.assert_array_equal(flat, np.full(6, 4.0))


def test_grad_of_shared_subgraphs_and_of_unreached_inputs() -> None:
    x, unused = Tensor([1.0, 2.0], requires_grad=True), Tensor([5.0], requires_grad=True)
    y = x * 2
    first, second, third, fourth = grad((y * y).sum() + y.sum(), [x, y, unused, x])
    np.testing.assert_array_equal(first, [10.0, 18.0])
    np.testing.assert_array_equal(second, [5.0, 9.0])
    np.testing.assert_array_equal(third, [0.0])
    np.testing.assert_array_equal(fourth, first)
    assert not np.shares_memory(first, fourth)
    np.testing.assert_array_equal(grad(x, [x], np.array([3.0, 4.0]))[0], [3.0, 4.0])
    assert x.grad is None


def test_check_grads_finds_a_wrong_gradient() -> None:
    def wrong(x: Tensor) -> Tensor:
        data = x.data
        return record("wrong", data**2, (x,), lambda g: (2.1 * data * g,))

    with pytest.raises(AssertionError, match=r"the gradient of input 0 of shape \(3,\) gives the slope"):
        check_grads(wrong, [[1.0, 2.0, 3.0]])
    with pytest.raises(AssertionError, match="the gradient of input 0"):
        check_grads(wrong, [[1.0, 2.0, 3.0]], complex_step=True)
    with pytest.raises(ValueError, match="no output of the function requires gradients"):
        check_grads(lambda x: Tensor(x.data), [[1.0]])
