"""Temperature scaling: one number that makes a trained model as sure of its predictions as it is right.

After several passes over a text a model is too sure on any other: there its loss is lower if the logits are divided by a
temperature, such as 1.2. The temperature is fitted to data that was held back from the training, and divides the gain of
the last norm, so that the model stays as it is otherwise.

References
----------
.. [1] C. Guo et al., "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from axone.llm.data.training_data import Batch, MaskedBatch, TrainingData
from axone.llm.loss import output_loss, states_and_targets
from axone.llm.model import LanguageModel
from axone.llm.training.config import TrainerConfig
from axone.nn import Parameter

TOKENS = 1 << 15
"""About the number of tokens to which a temperature is fitted."""

_WIDTHS = (2.0, 1.3, 1.1)


def hold_back(data: TrainingData, config: TrainerConfig) -> tuple[TrainingData, TrainingData | None]:
    """Return the data to train on, and the data for the temperature: None if there is none.

    The beginning of a text is held back, because the end is what most resembles the held-out text that follows it.

    Parameters
    ----------
    data : TrainingData
    config : TrainerConfig

    Returns
    -------
    train, calibration : TrainingData
    """
    fraction = max(config.calibration, (config.context_length + 2) / data.num_targets)
    if not config.calibration or fraction > 0.5:
        return data, None
    calibration, train = data.split(1 - fraction)
    return train, calibration


def require_calibration(model: LanguageModel, data: TrainingData, config: TrainerConfig) -> None:
    """Check that a model can be trained on data and calibrated.

    Parameters
    ----------
    model : LanguageModel
    data : TrainingData
    config : TrainerConfig

    Raises
    ------
    ValueError
        If the last norm is frozen, or there is no sequence to train on or to fit the temperature to.
    """
    if config.calibration and not all(gain.requires_grad for gain in logit_gains(model)):
        raise ValueError(
            f"calibration ({config.calibration}) needs the last norm, which is frozen: train it too, or set calibration to 0"
        )
    for part in hold_back(data, config):
        if part is not None:
            part.require(config.context_length)


def logit_gains(model: LanguageModel) -> list[Parameter]:
    """Return the parameters that all logits are proportional to: gain and bias of the last norm."""
    return [parameter for name, parameter in model.named_parameters() if name.startswith("transformer.norm.")]


def tempered_losses(model: LanguageModel, batch: Batch | MaskedBatch, temperatures: Sequence[float]) -> list[float]:
    """Return the summed loss of a batch at several temperatures.

    Parameters
    ----------
    model : LanguageModel
    batch : Batch or MaskedBatch
    temperatures : sequence of float

    Returns
    -------
    list of float
        In nats.
    """
    states, targets = states_and_targets(model, batch)
    return [output_loss(model, states * (1 / each), targets).item() * targets.size for each in temperatures]


def fit_temperature(losses: Callable[[Sequence[float]], Sequence[float]]) -> float:
    """Return the temperature of the lowest loss, between 1/3 and 3.

    Parameters
    ----------
    losses : callable
        From temperatures to losses.

    Returns
    -------
    float
        The lowest point of a parabola of the logarithm of the temperature, drawn three times, narrower each time.
    """
    temperature = 1.0
    for width in _WIDTHS:
        below, here, above = losses([temperature / width, temperature, temperature * width])
        bend = below - 2 * here + above
        shift = (below - above) / (2 * bend) if bend > 0 else math.copysign(1, below - above)
        temperature *= width ** float(np.clip(shift, -1, 1))
    return temperature
