"""Initial values: their bounds, spread and dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.nn import Embedding, Linear, init

FAN_OUT, FAN_IN = 300, 500
XAVIER, KAIMING = math.sqrt(6 / (FAN_OUT + FAN_IN)), math.sqrt(6 / FAN_IN)

CASES: list[tuple[Callable[..., None], dict[str, Any], float, float]] = [
    (init.normal, {}, math.inf, 0.02),
    (init.normal, {"std": 0.5}, math.inf, 0.5),
    (init.truncated_normal, {}, 0.04, 0.8796 * 0.02),
    (init.truncated_normal, {"std": 1.0, "cut": 3.0}, 3.0, 0.9866),
    (init.uniform, {"bound": 0.3}, 0.3, 0.3 / math.sqrt(3)),
    (init.xavier, {}, XAVIER, XAVIER / math.sqrt(3)),
    (init.xavier, {"gain": 2.0}, 2 * XAVIER, 2 * XAVIER / math.sqrt(3)),
    (init.kaiming, {}, KAIMING, math.sqrt(2 / FAN_IN)),
    (init.kaiming, {"gain": 1.0}, KAIMING / math.sqrt(2), math.sqrt(1 / FAN_IN)),
    (init.scaled_residual, {"num_layers": 8}, math.inf, 0.02 / 4),
]


@pytest.mark.parametrize(("fill", "options", "bound", "std"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_keep_their_bound_and_spread(
    fill: Callable[..., None], options: dict[str, Any], bound: float, std: float, dtype: Any
) -> None:
    parameter = Tensor(np.empty((FAN_OUT, FAN_IN), dtype))
    array = parameter.data
    fill(parameter, rng=np.random.default_rng(0), **options)
    assert parameter.data is array
    assert np.abs(array).max() <= bound * (1 + 1e-6)
    assert array.std() == pytest.approx(std, rel=0.01)
    assert abs(array.mean()) < 0.01 * std


@pytest.mark.parametrize("fill", [init.xavier, init.kaiming])
def test_initializers_by_fan_need_a_matrix(fill: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=r"needs a parameter of shape \(fan_out, fan_in\), got shape \(3,\)"):
        fill(Tensor(np.empty(3)), rng=np.random.default_rng(0))


def test_the_cut_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"cut \(0\) must be positive"):
        init.truncated_normal(Tensor(np.empty(3)), cut=0, rng=np.random.default_rng(0))


def test_layers_start_within_their_bounds() -> None:
    layer = Linear(400, 50, rng=np.random.default_rng(0))
    assert 0.049 < max(np.abs(parameter.data).max() for parameter in layer.parameters()) <= 0.05
    assert Embedding(200, 50, rng=np.random.default_rng(0)).weight.data.std() == pytest.approx(1, rel=0.02)
