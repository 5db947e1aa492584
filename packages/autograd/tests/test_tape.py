"""The walk back: what it adds up, what it frees, what it refuses."""

import weakref

import numpy as np
import pytest

from axone.autograd import Tensor, grad, no_grad


def test_gradients_of_shared_inputs_add_up() -> None:
    x = Tensor([2.0, 3.0], requires_grad=True)
    y = x + x
    (y * x + x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad, [9.0, 13.0])


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


def test_a_second_backward_is_refused_and_changes_nothing() -> None:
    x = Tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=r"'multiply' of shape .* has already been passed"):
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
