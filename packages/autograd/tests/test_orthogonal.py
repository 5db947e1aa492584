"""Orthogonalized matrices of Muon, against the polynomial of their singular values."""

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd.optim.muon import orthogonal


def four_steps(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthogonalize by singular values: each one goes through the polynomial four times."""
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sum(values**4) ** 0.25
    for _ in range(4):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    result: NDArray[np.float64] = (u * values) @ v
    return result


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8), (16, 4), (4, 16), (9, 5), (128, 128), (96, 384), (384, 96)])
def test_orthogonal_is_a_polynomial_of_the_singular_values(shape: tuple[int, int], power: float, dtype: type) -> None:
    rng, count = np.random.default_rng(0), min(shape)
    u, v = (np.linalg.qr(rng.normal(size=(side, count)))[0] for side in shape)
    matrix = ((u * np.arange(1, count + 1) ** -power) @ v.T).astype(dtype)
    result = orthogonal(matrix)
    assert result.dtype == dtype
    np.testing.assert_allclose(
        result, four_steps(matrix.astype(np.float64)), atol=1e-6 if dtype is np.float64 else 1e-4
    )
    assert 0.6 < np.linalg.norm(result, 2) < 1.21


def test_orthogonal_makes_singular_values_about_equal() -> None:
    rng = np.random.default_rng(0)
    for shape in ((8, 8), (16, 4), (4, 16), (200, 300)):
        matrix = rng.normal(size=shape)
        u, _, v = np.linalg.svd(matrix, full_matrices=False)
        result = orthogonal(matrix)
        np.testing.assert_allclose(u.T @ result @ v.T, np.eye(min(shape)), atol=0.35)
    np.testing.assert_array_equal(orthogonal(np.zeros((2, 3))), np.zeros((2, 3)))
