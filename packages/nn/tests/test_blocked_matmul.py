"""Blocked products equal NumPy's, and are used only inside `blocked_matmul`."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from axone.autograd.extend import Array
from axone.nn.functional import blocked_matmul


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make blocks of a few rows and columns, so that small products take every path of large ones."""
    sizes = {"_WIDTH": 2, "_WIDTH_TRANSPOSED": 3, "_LEAST_TRANSPOSED": 1, "_FAR": 40, "_REPAID": 9, "_SLAB": 1}
    for name, value in {"_SMALL": 60, "_HEIGHTS": (4, 2, 1), **sizes}.items():
        monkeypatch.setattr(blocked_matmul, name, value)
    monkeypatch.setattr(blocked_matmul, "_small_is_fast", lambda: True)
    blocked_matmul._cut.cache_clear()
    yield
    blocked_matmul._cut.cache_clear()


@pytest.mark.usefixtures("small_blocks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 12)),
    transposed=st.tuples(st.booleans(), st.booleans()),
    shared=st.booleans(),
    given_out=st.booleans(),
)
def test_a_blocked_product_equals_numpys(
    batch: tuple[int, ...],
    sizes: tuple[int, int, int],
    transposed: tuple[bool, bool],
    *,
    shared: bool,
    given_out: bool,
) -> None:
    M, K, N = sizes
    rng = np.random.default_rng(0)
    a = rng.standard_normal((*batch, K, M)).swapaxes(-1, -2) if transposed[0] else rng.standard_normal((*batch, M, K))
    several = () if shared else batch
    b = (
        rng.standard_normal((*several, N, K)).swapaxes(-1, -2)
        if transposed[1]
        else rng.standard_normal((*several, K, N))
    )
    out = np.full((*batch, M, 2 * N), np.nan)[..., :N] if given_out else None
    with blocked_matmul.blocked_matmul():
        got = blocked_matmul.matmul(a, b, out=out)
    assert out is None or got is out
    np.testing.assert_allclose(got, a @ b, rtol=1e-12, atol=1e-12)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Return the shapes of all left factors that are passed to BLAS."""
    seen: list[tuple[int, ...]] = []
    multiply = np.matmul

    def watched(a: Array, b: Array, out: Array | None = None) -> Array:
        seen.append(a.shape)
        return multiply(a, b, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    monkeypatch.setattr(blocked_matmul, "_small_is_fast", lambda: True)
    blocked_matmul._cut.cache_clear()
    yield seen
    blocked_matmul._cut.cache_clear()


def test_products_are_cut_only_inside_the_context(calls: list[tuple[int, ...]]) -> None:
    a, b = np.ones((384, 128), np.float32), np.ones((128, 128), np.float32)
    blocked_matmul.matmul(a, b)
    with blocked_matmul.blocked_matmul(), blocked_matmul.blocked_matmul():
        blocked_matmul.matmul(a, b)
        blocked_matmul.matmul(np.ones((1024, 128), np.float32).T, np.ones((1024, 128), np.float32))
    blocked_matmul.matmul(a, b)
    assert calls == [(384, 128), (6, 1, 64, 128), (128, 1024), (384, 128)]


@pytest.mark.parametrize(("most", "whole"), [(128 * 256, False), (128 * 256 - 1, True)])
def test_a_right_factor_larger_than_the_cache_is_not_copied(
    most: int, whole: bool, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_matmul, "_COPIED", most)
    with blocked_matmul.blocked_matmul():
        blocked_matmul.matmul(np.ones((384, 128), np.float32), np.ones((256, 128), np.float32).T)
    assert (calls == [(384, 128)]) is whole


def test_ones_are_cached_and_read_only() -> None:
    vector = blocked_matmul.ones(3, np.dtype(np.float32))
    assert vector is blocked_matmul.ones(3, np.dtype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        vector += 1
