"""What a training will take, before it is begun: memory by arithmetic and a traced batch, time by a few real steps."""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np

from axone.llm.config import LanguageModelConfig
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import NotEnoughMemoryError
from axone.llm.loss import next_token_loss
from axone.llm.model import LanguageModel
from axone.llm.pretrained.layout import count_parameters
from axone.llm.runtime import resources
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.config import TrainerConfig
from axone.llm.training.step import TrainingStep

_WARM_UP, _FEWEST, _MOST = 2, 3, 60  # steps
_LONG_ENOUGH = 2.0  # seconds of steps
_BYTES = 4  # of a parameter: float32


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes
    ----------
    parameters : int
        How many numbers the model trains.
    seconds : float
        For all steps and evaluations.
    memory : int or None
        The most that the process and its worker processes hold, in bytes, what they share counted once; None where the
        platform does not tell.
    """

    parameters: int
    seconds: float
    memory: int | None


def require_memory(config: LanguageModelConfig, num_replicas: int = 1) -> None:
    """Check, before a model is built, that memory holds its weights, gradients and the optimizer's moments.

    Parameters
    ----------
    config : LanguageModelConfig
    num_replicas : int, default 1
        Each has a gradient of its own.

    Raises
    ------
    NotEnoughMemoryError
        With the numbers, if it does not.
    """
    _require(count_parameters(config) * _BYTES * (1 + num_replicas + 2))


def estimate(
    model: LanguageModel,
    train_data: TokenDataset,
    validation_data: TokenDataset,
    config: TrainerConfig,
) -> Estimate:
    """Make some steps without changing the weights, and say what all of them will take.

    Parameters
    ----------
    model : LanguageModel
    train_data, validation_data : TokenDataset
    config : TrainerConfig

    Returns
    -------
    Estimate

    Raises
    ------
    NotEnoughMemoryError
        With the numbers, if memory will not do.
    """
    replicas = config.num_replicas
    weights = sum(parameter.data.nbytes for parameter in model.parameters())
    _require(weights * (2 + replicas) + replicas * _activations(model, train_data, config, replicas))
    with DataParallel(model, replicas, num_threads=config.num_workers, allow_fork=True) as team:
        turns = min(config.gradient_accumulation_steps, 2)  # a third batch takes what the second one took
        step = TrainingStep(team, replace(config, gradient_accumulation_steps=turns), train_data, validation_data)
        times: list[float] = []
        of_gradients: list[float] = []
        while len(times) < _WARM_UP + _FEWEST or (sum(times[_WARM_UP:]) < _LONG_ENOUGH and len(times) < _MOST):
            before = time.perf_counter()
            _, norm = step.gradients(len(times))
            of_gradients.append(time.perf_counter() - before)
            if math.isfinite(norm):
                step.apply(0.0)  # costs what it costs, and moves nothing
            times.append(time.perf_counter() - before)
        starts = validation_data.window_starts(config.context_length)
        sample = starts[: 4 * config.batch_size]
        before = time.perf_counter()
        step.evaluate(sample)
        window = (time.perf_counter() - before) / len(sample)
        memory = team.peak_memory()
    windows = min(config.eval_windows or len(starts), len(starts)) * (config.steps // config.eval_every) + len(starts)
    untried = (config.gradient_accumulation_steps - turns) / turns
    each = float(np.mean(times[_WARM_UP:])) + untried * float(np.mean(of_gradients[_WARM_UP:]))
    seconds = config.steps * each + windows * window
    return Estimate(model.num_parameters(), seconds, memory)


def _activations(model: LanguageModel, data: TokenDataset, config: TrainerConfig, num_replicas: int) -> int:
    """Return about what a worker holds for its share of a batch, in bytes: one window is tried, and a second."""
    share = math.ceil(config.batch_size / num_replicas)
    peaks = []
    for windows in (1, 2)[:share]:
        inputs, targets = data.batch(config.seed, 0, windows, config.context_length)
        tracemalloc.start()
        try:
            next_token_loss(model.train(), inputs, targets).backward()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
            for parameter in model.parameters():
                parameter.grad = None
    return peaks[0] + sum(b - a for a, b in itertools.pairwise(peaks)) * (share - 1)


def _require(needed: int) -> None:
    free = resources.available_memory()
    if free is not None and needed > free:
        raise NotEnoughMemoryError(
            f"training needs about {needed / 2**20:,.0f} MB of memory, and {free / 2**20:,.0f} MB are free: choose a "
            "smaller model, a shorter context, a smaller batch or fewer workers"
        )
