"""Numerical stability at the limits of float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from axone import autograd
from axone.autograd import Tensor
from axone.nn import LayerNorm, RMSNorm
from axone.nn.functional import cross_entropy, gelu, layer_norm, plain, relu2, silu, softmax, swiglu


def test_softmax_of_any_scores() -> None:
    x = Tensor([[1e4, -1e4, 9999.0], [-np.inf, 0.0, -1e4], [-np.inf] * 3, [-80.0, -81.0, -np.inf]], requires_grad=True)
    p = softmax(x)
    p.backward(np.arange(12.0).reshape(4, 3))
    e = np.exp(-1)
    expected = [[1 / (1 + e), 0, e / (1 + e)], [0, 1, 0], [0, 0, 0], [1 / (1 + e), e / (1 + e), 0]]
    np.testing.assert_allclose(p.data, expected, rtol=1e-5)
    assert x.grad is not None
    assert np.isfinite(x.grad).all()


def test_softmax_is_that_of_autograd() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    for axis in (-1, 2, 0, -2):
        np.testing.assert_allclose(softmax(Tensor(x), axis).data, autograd.softmax(Tensor(x), axis).data, rtol=1e-14)
    assert softmax(Tensor(1.0)).item() == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_cross_entropy_of_large_logits(offset: float, smoothing: float) -> None:
    data = np.random.default_rng(0).uniform(-1e4, 1e4, (8, 5)).astype(np.float32)
    data[4:] /= 1e4
    targets = np.arange(8) % 5
    results = []
    for function, dtype in ((cross_entropy, np.float32), (plain.cross_entropy, np.float64)):
        logits = Tensor((data + np.float32(offset)).astype(dtype), requires_grad=True)
        loss = function(logits, targets, label_smoothing=smoothing)
        loss.backward()
        assert logits.grad is not None
        results.append((loss.data, logits.grad))
    (loss_, gradient), (expected, expected_gradient) = results
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(loss_, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_the_loss_of_a_nearly_certain_target_keeps_its_digits() -> None:
    """A loss of 3e-7 nats: in float32, the difference of two numbers near 15 comes in steps of 1e-6."""
    logits = Tensor(np.array([[15.0, 0.0]], np.float32))
    assert cross_entropy(logits, np.array([0])).item() == pytest.approx(np.log1p(np.exp(-15)), abs=2e-7)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4, 1e-30])
@pytest.mark.parametrize("layer", [LayerNorm(64), RMSNorm(64)], ids=lambda layer: type(layer).__name__)
def test_rows_without_variance(layer: Any, value: float) -> None:
    x = Tensor(np.full((3, 64), value, np.float32), requires_grad=True)
    y = layer(x)
    y.backward(np.random.default_rng(0).standard_normal(y.shape))
    assert np.isfinite(y.data).all()
    assert x.grad is not None
    assert np.isfinite(x.grad).all()
    if isinstance(layer, LayerNorm):
        np.testing.assert_allclose(y.data, 0, atol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 1.0, 30.0, 1e4])
def test_layer_norm_of_rows_far_from_zero(mean: float) -> None:
    """The mean square less the square of the mean would lose the variance here."""
    data = (np.random.default_rng(0).standard_normal((16, 64)) + mean).astype(np.float32)
    results = []
    for function, dtype in ((layer_norm, np.float32), (plain.layer_norm, np.float64)):
        x = Tensor(data.astype(dtype), requires_grad=True)
        y = function(x, Tensor(np.ones(64, dtype)))
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        results.append((y.data, x.grad))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6 + 1e-7 * mean)


@pytest.mark.parametrize("value", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_activations_of_large_inputs(value: float) -> None:
    x = Tensor(np.full(3, value, np.float32), requires_grad=True)
    for function, slope in (
        (gelu, value > 0),
        (lambda t: gelu(t, approximate="none"), value > 0),
        (silu, value > 0),
        (lambda t: swiglu(t, Tensor(np.ones(3, np.float32))), value > 0),
        (relu2, 2 * max(value, 0)),
    ):
        x.grad = None
        y = function(x)
        y.backward(np.ones(3))
        np.testing.assert_allclose(y.data, max(value, 0) * (value if function is relu2 else 1))
        assert x.grad is not None
        np.testing.assert_allclose(x.grad, float(slope) if value else 0.0 if function is relu2 else 0.5)


def test_an_infinite_gradient_of_relu2_below_zero_is_dropped() -> None:
    """The slope is exactly 0 there, and 0 times infinity would be NaN."""
    for function in (relu2, plain.relu2):
        x = Tensor(np.array([-1.0, 0.0, 2.0]), requires_grad=True)
        with np.errstate(invalid="ignore"):
            function(x).backward(np.array([np.inf, -np.inf, 1.0]))
        np.testing.assert_array_equal(x.grad, [0, 0, 4])
