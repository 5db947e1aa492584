"""Vectors of ones; `test_intra_op` tests the products."""

import numpy as np
import pytest

from axone.nn.functional.matmul import ones


def test_ones_are_cached_and_read_only() -> None:
    vector = ones(3, np.dtype(np.float32))
    assert vector is ones(3, np.dtype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        vector += 1
