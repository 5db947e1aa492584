"""Next-token loss of a large vocabulary against the plain one, and bits per byte."""

import math

import numpy as np
import pytest

from axone.llm import LanguageModel, LanguageModelConfig, bits_per_byte, loss, next_token_loss


def test_the_loss_of_a_large_vocabulary_is_that_of_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LanguageModelConfig(vocab_size=300, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    ids = np.random.default_rng(0).integers(0, 300, (4, 8))
    losses, gradients = [], []
    for limit in (1 << 23, 500):
        monkeypatch.setattr(loss, "_MAX_LOGITS", limit)
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


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    # A text of 8 bytes: as 8 tokens of 1 nat, or as 4 tokens of 2.
    assert bits_per_byte(1.0, 8, 8) == pytest.approx(bits_per_byte(2.0, 4, 8)) == pytest.approx(1 / math.log(2))
