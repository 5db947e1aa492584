"""Next-token loss in chunks against the plain one, and bits per byte."""

import math

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.autograd.testing import check_grads
from axone.llm import LanguageModel, LanguageModelConfig, bits_per_byte, cross_entropy, loss
from axone.llm.loss import linear_cross_entropy, next_token_loss
from axone.nn.functional import linear


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 100])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_chunks_of_rows_give_the_loss_and_gradients_of_all_rows(rows: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    weight = Tensor(rng.normal(size=(7, 4)), requires_grad=True)
    targets = rng.integers(0, 7, (2, 3))
    plain = cross_entropy(linear(x, weight), targets)
    (plain * scale).backward()
    wanted = [x.grad, weight.grad]
    x.grad = weight.grad = None
    chunked = linear_cross_entropy(x, weight, targets, rows=rows)
    (chunked * scale).backward()
    assert chunked.item() == pytest.approx(plain.item(), abs=1e-12)
    for got, want in zip((x.grad, weight.grad), wanted):
        assert got is not None
        assert want is not None
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_gradients_in_chunks_equal_finite_differences() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 5, 4)
    inputs = (Tensor(rng.normal(size=(4, 3)), requires_grad=True), Tensor(rng.normal(size=(5, 3)), requires_grad=True))
    check_grads(lambda x, w: linear_cross_entropy(x, w, targets, rows=3), inputs)


def test_logits_of_a_large_vocabulary_are_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LanguageModelConfig(vocab_size=300, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    ids = np.random.default_rng(0).integers(0, 300, (4, 8))
    losses, gradients = [], []
    for limit in (1 << 23, 500):
        monkeypatch.setattr(loss, "_MAX_LOGITS", limit)
        monkeypatch.setattr(loss, "_MAX_CHUNK", limit)
        model = LanguageModel(config, rng=np.random.default_rng(0))
        output = next_token_loss(model, ids, np.roll(ids, 1))
        output.backward()
        losses.append(output.item())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for one, other in zip(*gradients):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_shapes_and_targets_are_checked() -> None:
    x, weight = Tensor(np.zeros((2, 3))), Tensor(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"x of shape \(2, 3\) and targets of shape \(3,\)"):
        linear_cross_entropy(x, weight, np.zeros(3, np.int64))
    with pytest.raises(IndexError, match=r"targets \(0 to 5\) must be from 0 to 4"):
        linear_cross_entropy(x, weight, np.array([0, 5]))


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    # A text of 8 bytes: as 8 tokens of 1 nat, or as 4 tokens of 2.
    assert bits_per_byte(1.0, 8, 8) == pytest.approx(bits_per_byte(2.0, 4, 8)) == pytest.approx(1 / math.log(2))
