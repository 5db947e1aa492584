"""Products cut into small ones are the same products."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from axone.autograd.extend import Array
from axone.nn.functional import products


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make blocks of a few rows and columns, so that small products meet everything large ones do."""
    sizes = {"_WIDTH": 2, "_WIDTH_TRANSPOSED": 3, "_LEAST_TRANSPOSED": 1, "_FAR": 40, "_REPAID": 9, "_SLAB": 1}
    for name, value in {"_SMALL": 60, "_HEIGHTS": (4, 2, 1), **sizes}.items():
        monkeypatch.setattr(products, name, value)
    monkeypatch.setattr(products, "_small_is_fast", lambda: True)
    products._cut.cache_clear()
    yield
    products._cut.cache_clear()


@pytest.mark.usefixtures("small_blocks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 12)),
    transposed=st.tuples(st.booleans(), st.booleans()),
    shared=st.booleans(),
    given_out=st.booleans(),
)
def test_blocks_change_nothing(
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
    with products.in_blocks():
        got = products.matmul(a, b, out=out)
    assert out is None or got is out
    np.testing.assert_allclose(got, a @ b, rtol=1e-12, atol=1e-12)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Return the shapes of all left factors that are handed to BLAS."""
    seen: list[tuple[int, ...]] = []
    multiply = np.matmul

    def watched(a: Array, b: Array, out: Array | None = None) -> Array:
        seen.append(a.shape)
        return multiply(a, b, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    monkeypatch.setattr(products, "_small_is_fast", lambda: True)
    products._cut.cache_clear()
    yield seen
    products._cut.cache_clear()


def test_products_are_cut_only_where_it_was_asked_for(calls: list[tuple[int, ...]]) -> None:
    a, b = np.ones((384, 128), np.float32), np.ones((128, 128), np.float32)
    products.matmul(a, b)
    with products.in_blocks(), products.in_blocks():
        products.matmul(a, b)
        products.matmul(np.ones((1024, 128), np.float32).T, np.ones((1024, 128), np.float32))
    products.matmul(a, b)
    assert calls == [(384, 128), (6, 1, 64, 128), (128, 1024), (384, 128)]


@pytest.mark.parametrize(("most", "whole"), [(128 * 256, False), (128 * 256 - 1, True)])
def test_a_right_factor_that_no_cache_holds_is_not_copied(
    most: int, whole: bool, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_COPIED", most)
    with products.in_blocks():
        products.matmul(np.ones((384, 128), np.float32), np.ones((256, 128), np.float32).T)
    assert (calls == [(384, 128)]) is whole


def test_ones_are_shared_and_stay_ones() -> None:
    vector = products.ones(3, np.dtype(np.float32))
    assert vector is products.ones(3, np.dtype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        vector += 1
