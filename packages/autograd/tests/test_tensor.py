"""Tensor: construction, dtype rules, in-place writes, gradients and formatting."""

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import axone.autograd as ag
from axone.autograd import Tensor, no_grad


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, np.float32),
        (2.5, np.float32),
        ([1, 2], np.float32),
        ([[1.0], [2.0]], np.float32),
        (np.arange(3), np.int64),
        (np.ones(2), np.float64),
        (np.float64(3.0), np.float64),
        (np.array([True]), np.bool_),
    ],
)
def test_numbers_and_lists_become_float32_and_arrays_keep_their_dtype(data: Any, dtype: type) -> None:
    assert Tensor(data).dtype == dtype
    assert Tensor(data, dtype=np.float16).dtype == np.float16


def test_an_array_is_not_copied() -> None:
    array = np.ones(3)
    assert Tensor(array).data is array
    assert Tensor(array).numpy() is array
    t = Tensor(array, requires_grad=True)
    assert t.detach().data is array
    assert not t.detach().requires_grad


@pytest.mark.parametrize(
    "other",
    [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), [1.0, 2.0], np.array([1.0, 2.0]), np.array(3)],
)
@pytest.mark.parametrize("operation", [ag.add, ag.subtract, ag.multiply, ag.divide, ag.power, ag.maximum])
def test_float32_never_widens(operation: Any, other: Any) -> None:
    t = Tensor([1.0, 2.0], requires_grad=True)
    for result in (operation(t, other), operation(other, t)):
        assert result.dtype == np.float32
        t.grad = None
        result.sum().backward()
        assert t.grad is not None
        assert t.grad.dtype == np.float32


def test_where_clip_and_concatenate_keep_float32() -> None:
    t = Tensor([1.0, 2.0])
    array = np.array([0.5, 3.0])
    results = [
        ag.where(array > 1, t, array), ag.where(array > 1, 0.0, t), ag.clip(t, array, None), ag.concatenate([array, t]),
        ag.stack([t, array]), ag.einsum("i,i", t, array), ag.matmul(array, t), ag.pad(t, 1, constant_values=array[0]),
    ]  # fmt: skip
    assert {result.dtype for result in results} == {np.dtype(np.float32)}


def test_integer_tensors_beside_float_tensors() -> None:
    assert (Tensor(np.arange(2)) * Tensor([1.0, 2.0])).dtype == np.float32
    assert (Tensor([1.0, 2.0]) * Tensor(np.arange(2))).dtype == np.float32
    assert (Tensor(np.arange(2)) + Tensor(np.arange(2))).dtype == np.int64


def test_astype_converts_the_gradient_back() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x.astype(np.float64) * Tensor(np.array([3.0, 4.0]))).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])


def test_comparisons_give_boolean_arrays() -> None:
    t, u = Tensor([1.0, 2.0, 3.0]), Tensor([3.0, 2.0, 1.0])
    for result, expected in [
        (t < u, [True, False, False]), (t <= u, [True, True, False]), (t > 2, [False, False, True]),
        (np.array([1, 2, 2]) >= t, [True, True, False]), (t == u, [False, True, False]), (t != u, [True, False, True]),
    ]:  # fmt: skip
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected)


def test_hashing_is_by_identity() -> None:
    t, u = Tensor(1.0), Tensor(1.0)
    assert {t: "t", u: "u"}[t] == "t"
    assert len({t, u}) == 2


def test_augmented_assignment_rebinds_the_name() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    before = t = x * 2
    t += 1
    t *= t
    assert t is not before
    np.testing.assert_array_equal(before.data, [2.0, 4.0])
    t.sum().backward()
    np.testing.assert_array_equal(x.grad, [12.0, 20.0])


def test_in_place_writes_outside_of_a_graph() -> None:
    t = Tensor(np.zeros((2, 2)))
    t[0] = 1.0
    t[1, 1] = Tensor(2.0)
    t[t == 0] = 5
    np.testing.assert_array_equal(t.data, [[1.0, 1.0], [5.0, 2.0]])


def test_writing_to_a_parameter_between_steps() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    y = (w * w).sum()
    with no_grad(), pytest.raises(RuntimeError, match="part of a graph"):
        w[0] = 0.0
    y.backward()
    with no_grad():
        w[0] = 0.0
    assert w.data[0] == 0


def test_a_constant_that_the_graph_needs_is_protected_until_backward() -> None:
    x, c = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0])
    y = (x * c).sum()
    with pytest.raises(RuntimeError, match="part of a graph"):
        c[0] = 0.0
    y.backward()
    c[0] = 0.0
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])


def test_a_result_may_be_written_to_once_its_graph_is_gone() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.sum()
    del y
    with no_grad():
        x[0] = 5.0
    assert x.data[0] == 5


def test_python_numbers_and_lengths() -> None:
    t = Tensor([[1.5]])
    assert (t.item(), float(t), int(t), bool(t), len(t)) == (1.5, 1.5, 1, True, 1)
    assert (t.shape, t.ndim, t.size, t.T.shape) == ((1, 1), 2, 1, (1, 1))
    rows = list(Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True))
    assert [row.shape for row in rows] == [(2,), (2,)]
    assert all(row.requires_grad for row in rows)


def test_repr() -> None:
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(Tensor(np.array([1.0]), requires_grad=True)) == "Tensor([1.], dtype=float64, requires_grad=True)"
    assert repr(Tensor(1.0, requires_grad=True) * 2) == "Tensor(2., from='multiply')"


def test_clearing_the_gradient_keeps_its_array() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.zero_grad()
    assert x.grad is None
    buffer = x.grad = np.array([5.0, 6.0], dtype=np.float32)
    x.zero_grad()
    assert x.grad is buffer
    np.testing.assert_array_equal(buffer, [0.0, 0.0])
    (x * 3).sum().backward()
    assert x.grad is buffer
    np.testing.assert_array_equal(buffer, [3.0, 3.0])


def test_a_write_to_a_cleared_gradient_is_kept() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.grad = np.ones(2, np.float32)
    x.zero_grad()
    gradient = x.grad
    gradient += 10
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad, [13.0, 13.0])


def test_a_copy_has_its_own_gradient() -> None:
    original = Tensor([1.0, 2.0], requires_grad=True)
    waiting = (original * original).sum()
    copied = copy.deepcopy(original)
    (copied * 3).sum().backward()
    assert original.grad is None
    np.testing.assert_array_equal(copied.grad, [3.0, 3.0])
    waiting.backward()
    np.testing.assert_array_equal(original.grad, [2.0, 4.0])
    again = copy.deepcopy(original)
    np.testing.assert_array_equal(again.grad, [2.0, 4.0])
    assert not np.shares_memory(again.grad, original.grad)


def test_a_number_can_be_formatted() -> None:
    loss = Tensor(1.23456, requires_grad=True)
    assert f"{loss:.2f}, {loss * 2:8.3f}" == "1.23,    2.469"
    assert f"{loss}" == repr(loss)
    assert f"{Tensor([1.0, 2.0])}" == "Tensor([1., 2.])"
    with pytest.raises(ValueError, match=r"needs a Tensor of one element, got shape \(2,\)"):
        f"{Tensor([1.0, 2.0]):.2f}"


def test_a_value_is_in_a_tensor() -> None:
    t = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert 2.0 in t
    assert 5.0 not in t
    assert np.array([1.0, 2.0]) in t
    assert 1.0 in Tensor(1.0)


def test_huge_integers_in_a_list_become_float32() -> None:
    np.testing.assert_array_equal(Tensor([2**70, 1]).data, np.array([2.0**70, 1.0], np.float32))


def test_a_tensor_of_a_tensor_keeps_its_dtype() -> None:
    assert Tensor(Tensor(np.ones(2))).dtype == np.float64
    assert Tensor(Tensor(np.ones(2)), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "interpreter",
    [
        "import sys; del sys.getrefcount",  # as PyPy
        "import sys; count = sys.getrefcount; sys.getrefcount = lambda x: count(x) + 3",  # more per call
        "import sys; count = sys.getrefcount; sys.getrefcount = lambda x: max(count(x), 1 << 30)",  # immortal objects
    ],
)
def test_in_place_writes_where_references_are_counted_otherwise(interpreter: str) -> None:
    code = f"""{interpreter}
from axone.autograd import Tensor, no_grad
w, c = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0])
y = (w * c).sum()
for t in (w, c):
    try:
        with no_grad():
            t[0] = 0.0
    except RuntimeError as error:
        assert "part of a graph" in str(error)
    else:
        raise SystemExit("a write to a Tensor of a graph must be refused")
y.backward()
with no_grad():
    w[0] = c[0] = 0.0
assert w.data[0] == c.data[0] == 0.0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
