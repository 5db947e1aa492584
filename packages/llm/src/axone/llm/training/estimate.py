"""Estimate of a training before it starts: memory by arithmetic and a traced batch, time by a few measured steps."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from axone.llm.config import LanguageModelConfig
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import NotEnoughMemoryError
from axone.llm.loss import batch_loss
from axone.llm.model import LanguageModel, count_parameters
from axone.llm.runtime import resources
from axone.llm.runtime.communicator import Communicator, together
from axone.llm.training.config import TrainerConfig
from axone.llm.training.ranks import data_parallel, workers_of_rank
from axone.llm.training.step import TrainingStep
from axone.nn import Dropout

_WARM_UP_STEPS, _MIN_STEPS, _MAX_STEPS = 2, 3, 60
_MIN_SECONDS = 2.0  # of measured steps
_BYTES_PER_PARAMETER = 4  # float32


@dataclass(frozen=True)
class Estimate:
    """Predicted costs of a training.

    Attributes
    ----------
    parameters : int
        Number of trained parameters.
    seconds : float
        Duration of all steps and evaluations.
    seconds_per_step : float
        Duration of a step without evaluation.
    memory : int or None
        Peak memory of the process and its worker processes, in bytes, with shared memory counted once; None where the
        platform does not report it.
    """

    parameters: int
    seconds: float
    seconds_per_step: float
    memory: int | None


def require_memory(config: LanguageModelConfig, num_replicas: int = 1) -> None:
    """Check that memory holds the weights, gradients and optimizer state of a model, before the model is built.

    Parameters
    ----------
    config : LanguageModelConfig
    num_replicas : int, default 1
        Each has a gradient of its own.

    Raises
    ------
    NotEnoughMemoryError
        If less memory is free.
    """
    try:
        parameters = count_parameters(config)
    except ValueError:  # larger than any array can be
        parameters = sys.maxsize
    _require(parameters * _BYTES_PER_PARAMETER * (1 + num_replicas + 2))


def estimate(
    model: LanguageModel,
    train_data: TrainingData,
    validation_data: TrainingData,
    config: TrainerConfig,
    communicator: Communicator,
    *,
    first_step: int = 0,
) -> Estimate:
    """Measure a few steps with a learning rate of 0, and predict the time and memory of the training.

    Parameters
    ----------
    model : LanguageModel
        Its weights, gradients, mode and dropout generators stay as they are; its weights are moved into one new array, as
        by the training, because a copy would need more memory than the training.
    train_data, validation_data : TrainingData
    config : TrainerConfig
    communicator : Communicator
    first_step : int, default 0
        Number of steps made before.

    Returns
    -------
    Estimate
        Its memory is that of one rank.

    Raises
    ------
    NotEnoughMemoryError
        If the training needs more memory than is free.
    """
    with _unchanged(model):
        return _measure(model, train_data, validation_data, config, communicator, first_step)


@contextlib.contextmanager
def _unchanged(model: LanguageModel) -> Iterator[None]:
    """Restore gradients, modes and dropout generators of a model at the end of the block."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    generators = [(module, module.rng) for module in model.modules() if isinstance(module, Dropout)]
    for parameter, _ in gradients:
        parameter.grad = None  # otherwise the backward adds to it
    for dropout, _ in generators:
        dropout.rng = np.random.default_rng(0)
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
        for dropout, generator in generators:
            dropout.rng = generator


def _measure(
    model: LanguageModel,
    train_data: TrainingData,
    validation_data: TrainingData,
    config: TrainerConfig,
    communicator: Communicator,
    first_step: int,
) -> Estimate:
    _, num_replicas = workers_of_rank(config, communicator)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = sum(parameter.data.nbytes for parameter in trained)
    part = math.ceil(config.batch_size / (num_replicas * communicator.world_size))
    with together(communicator):
        _require(
            weights * (2 + num_replicas + (config.averaged_steps > 0))
            + num_replicas * _activations(model, train_data, config, part)
        )
    with data_parallel(model, config, communicator) as workers:
        turns = min(config.gradient_accumulation_steps, 2)  # a third batch takes as long as the second
        step = TrainingStep(workers, replace(config, gradient_accumulation_steps=turns), train_data, validation_data)
        starts = validation_data.sequence_starts(config.context_length)
        sample = starts[: 4 * config.batch_size]

        def measure() -> tuple[float, float, float, int | None]:
            times: list[float] = []
            gradient_times: list[float] = []
            while len(times) < _WARM_UP_STEPS + _MIN_STEPS or (
                sum(times[_WARM_UP_STEPS:]) < _MIN_SECONDS and len(times) < _MAX_STEPS
            ):
                before = time.perf_counter()
                _, norm = step.gradients(len(times))
                gradient_times.append(time.perf_counter() - before)
                if math.isfinite(norm):
                    step.apply(0.0)  # a learning rate of 0 takes the time of any other
                times.append(time.perf_counter() - before)
            before = time.perf_counter()
            step.evaluate(sample)
            seconds_per_sequence = (time.perf_counter() - before) / len(sample)
            of_step, of_gradient = (float(np.mean(each[_WARM_UP_STEPS:])) for each in (times, gradient_times))
            return of_step, of_gradient, seconds_per_sequence, workers.peak_memory()

        of_step, of_gradient, seconds_per_sequence, memory = workers.ranks.lead(step, measure)
    evaluations = config.steps // config.eval_every - first_step // config.eval_every
    sequences = min(config.eval_sequences or len(starts), len(starts)) * evaluations + len(starts)
    untried = (config.gradient_accumulation_steps - turns) / turns
    each = of_step + untried * of_gradient
    seconds = (config.steps - first_step) * each + sequences * seconds_per_sequence
    return Estimate(sum(parameter.size for parameter in trained), seconds, each, memory)


def _activations(model: LanguageModel, data: TrainingData, config: TrainerConfig, part: int) -> int:
    """Return about the bytes that `part` sequences take, from a traced batch of one sequence and one of two."""
    peaks = []
    for size in (1, 2)[:part]:
        batch = data.read(data.heaviest(size, config.context_length), config.context_length)
        tracemalloc.start()
        try:
            batch_loss(model.train(), batch).backward()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
            for parameter in model.parameters():
                parameter.grad = None
    return peaks[0] + sum(b - a for a, b in itertools.pairwise(peaks)) * (part - 1)


def _require(needed: int) -> None:
    free = resources.available_memory()
    if free is not None and needed > free:
        raise NotEnoughMemoryError(
            f"training needs about {needed / 2**20:,.0f} MB of memory, and {free / 2**20:,.0f} MB are free: choose a "
            "smaller model, a shorter context, a smaller batch or fewer workers"
        )
