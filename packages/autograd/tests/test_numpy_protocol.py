"""NumPy's functions and operators on Tensors: recorded, or refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor

X = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


@pytest.fixture
def t() -> Tensor:
    return Tensor(X.copy(), requires_grad=True)


@pytest.mark.parametrize(
    "compute",
    [
        np.exp,
        lambda t: np.sum(t, axis=0),
        lambda t: np.sum(t, 1, keepdims=True),
        lambda t: np.where(X > 2, t, 0.0),
        lambda t: X * t,
        lambda t: X @ t,
        lambda t: X - t,
        lambda t: X**t,
        lambda t: X / t,
        lambda t: np.float32(2) * t,
        lambda t: np.float64(2) + t,
        lambda t: np.int64(2) - t,
        np.abs,
        lambda t: np.max(t, axis=1),
        np.min,
        lambda t: np.concatenate([X, t]),
        lambda t: np.split(t, 2)[0],
        lambda t: np.einsum("ij,jk", X, t),
        lambda t: np.clip(t, 0, 2),
        lambda t: np.matmul(t, t),
        lambda t: np.reshape(t, (4,)),
        np.transpose,
        lambda t: np.pad(t, 1),
        lambda t: np.var(t, axis=0, ddof=1),
        lambda t: X % t,
        lambda t: t % 1.5,
        lambda t: 5 % t,
        lambda t: +t,
        np.square,
        np.prod,
        lambda t: np.dot(X, t),
        lambda t: np.outer(X, t),
        lambda t: np.repeat(t, 2, axis=1),
        lambda t: np.hstack([X, t]),
        lambda t: np.vstack([t, X[0]]),
        lambda t: np.tensordot(t, X, axes=(0, 1)),
        lambda t: np.linalg.norm(t, axis=1),
        np.linalg.norm,
        np.copy,
        np.ravel,
        np.amax,
        lambda t: np.mod(t, 2),
    ],
)
def test_a_result_is_recorded_in_the_dtype_of_the_tensor(compute: Callable[[Any], Any], t: Tensor) -> None:
    result = compute(t)
    assert type(result) is Tensor
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.data, compute(X), rtol=1e-6)
    result.sum().backward()
    assert t.grad is not None


@pytest.mark.parametrize(
    "compute",
    [
        np.shape, np.ndim, np.size, np.sign, np.floor, np.ceil, np.round, np.isnan, np.isinf, np.isfinite,
        np.any, lambda t: np.all(t, axis=0), np.argmax, lambda t: np.argmin(t, axis=1), lambda t: np.argsort(t, axis=0),
        np.count_nonzero, lambda t: np.size(t, 1), lambda t: np.allclose(t, X), lambda t: np.array_equal(X, t),
    ],
)  # fmt: skip
def test_functions_without_gradient_return_plain_results(compute: Callable[[Any], Any], t: Tensor) -> None:
    found, expected = compute(t), compute(X)
    assert type(found) is type(expected)
    np.testing.assert_array_equal(found, expected)
    if isinstance(found, np.ndarray):
        assert found.dtype == expected.dtype


def test_comparisons(t: Tensor) -> None:
    np.testing.assert_array_equal(t == X, np.ones((2, 2), bool))
    np.testing.assert_array_equal(np.greater(t, 2), X > 2)


REFUSED = "does not support Tensors: use an operation of axone.autograd, or pass the Tensor's .data"


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (np.arctan, f"numpy.arctan {REFUSED}"),
        (np.add.reduce, f"numpy.add.reduce {REFUSED}"),
        (lambda t: np.exp(t, out=np.zeros((2, 2))), f"numpy.exp with out= {REFUSED}"),
        (np.linalg.det, f"numpy.linalg.det {REFUSED}"),
        (np.median, f"numpy.median {REFUSED}"),
        (lambda t: np.sum(t, dtype=np.float64), "sum() got an unexpected keyword argument 'dtype'"),
    ],
)
def test_other_functions_are_refused_by_name(compute: Callable[[Any], Any], message: str, t: Tensor) -> None:
    with pytest.raises(TypeError) as raised:
        compute(t)
    assert str(raised.value) == message


def test_adding_a_tensor_into_an_array_is_refused(t: Tensor) -> None:
    array: Any = X.copy()
    with pytest.raises(TypeError, match=r"numpy\.add with out= does not support Tensors"):
        array += t


def test_conversion_to_an_array_that_would_drop_gradients_is_refused(t: Tensor) -> None:
    for convert in (np.asarray, lambda t: np.array([t, t]), Tensor, lambda t: Tensor(X) * [t, t]):
        with pytest.raises(TypeError, match=r"NumPy would drop the gradients of a Tensor of shape \(2, 2\)"):
            convert(t)


def test_a_tensor_without_gradients_converts() -> None:
    t = Tensor(X)
    assert np.asarray(t) is t.data
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    copied = np.array(t)
    assert copied is not t.data
    np.testing.assert_array_equal(copied, X)
