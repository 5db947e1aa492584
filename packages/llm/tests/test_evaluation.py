import numpy as np
import pytest

from axone.autograd import no_grad
from axone.llm import LanguageModel, LanguageModelConfig, perplexity, sliding_loss

CONFIG = LanguageModelConfig(vocab_size=11, context_length=8, num_layers=2, num_heads=2, embed_dim=16)
TOKENS = np.random.default_rng(0).integers(0, 11, 30)


@pytest.fixture
def model() -> LanguageModel:
    model = LanguageModel(CONFIG, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape)
    return model


def loss_by_hand(model: LanguageModel, window: int, stride: int) -> float:
    """Predict each token from the window in which it is new, one after the other."""
    losses: list[float] = []
    while len(losses) < len(TOKENS) - 1:
        end = min(window if not losses else len(losses) + stride, len(TOKENS) - 1)
        for position in range(len(losses), end):
            context = TOKENS[max(end - window, 0) : position + 1]
            with no_grad():
                scores = model(context[None]).data[0, -1].astype(np.float64)
            losses.append(
                float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[TOKENS[position + 1]])
            )
    return float(np.mean(losses))


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 4), (8, 1), (5, 3), (1, 1)])
def test_every_token_is_predicted_once_from_the_window_in_which_it_is_new(
    model: LanguageModel, window: int, stride: int
) -> None:
    seen: list[int] = []
    loss = sliding_loss(model, TOKENS, window=window, stride=stride, progress=seen.append)
    assert loss == pytest.approx(loss_by_hand(model.eval(), window, stride), rel=1e-5)
    assert seen == sorted(set(seen))
    assert seen[-1] == len(TOKENS) - 1


def test_perplexity_is_the_exponential_of_the_loss_and_the_mode_stays(model: LanguageModel) -> None:
    assert perplexity(model.train(), TOKENS) == pytest.approx(np.exp(sliding_loss(model, TOKENS, window=8, stride=4)))
    assert model.training


def test_ranges_are_checked(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="N of at least 2"):
        sliding_loss(model, TOKENS[:1])
    with pytest.raises(ValueError, match=r"window \(9\) must be from 1 to the model's context length \(8\)"):
        sliding_loss(model, TOKENS, window=9)
    with pytest.raises(ValueError, match=r"stride \(5\) must be from 1 to window \(4\)"):
        sliding_loss(model, TOKENS, window=4, stride=5)
