"""Products cut into small ones are the same products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from axone.nn.functional import products


@given(
    batch=array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 6), st.integers(0, 6)),
    transposed=st.booleans(),
    given_out=st.booleans(),
)
def test_runs_of_rows_change_nothing(
    batch: tuple[int, ...], sizes: tuple[int, int, int], *, transposed: bool, given_out: bool
) -> None:
    M, K, N = sizes
    rng = np.random.default_rng(0)
    a = rng.standard_normal((*batch, K, M)).swapaxes(-1, -2) if transposed else rng.standard_normal((*batch, M, K))
    b = rng.standard_normal((*batch, K, N))
    out = np.full((*batch, M, 2 * N), np.nan)[..., :N] if given_out else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_SMALL", 150)
        patch.setattr(products, "_small_is_fast", lambda: True)
        got = products.matmul(a, b, out=out)
    assert out is None or got is out
    np.testing.assert_allclose(got, a @ b, rtol=1e-12, atol=1e-12)


def test_ones_are_shared_and_stay_ones() -> None:
    vector = products.ones(3, np.dtype(np.float32))
    assert vector is products.ones(3, np.dtype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        vector += 1
