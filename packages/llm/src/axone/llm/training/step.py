"""TrainingStep: gradient, clipping and update of one step, and the loss on held-out text, on replicas of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from axone.autograd import Tensor
from axone.llm.data.training_data import TrainingData
from axone.llm.loss import batch_loss
from axone.llm.model import LanguageModel
from axone.llm.runtime.collectives import collective
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.runtime.threads import Result, values
from axone.llm.storage.safetensors import WritableState
from axone.llm.training.calibration import TOKENS, fit_temperature, hold_back, logit_gains, tempered_losses
from axone.llm.training.config import TrainerConfig
from axone.llm.training.optimizers import Optimizers, learning_rate
from axone.llm.training.state_shards import stream_state
from axone.llm.types import Ids
from axone.nn import Dropout, Parameter, reseed_dropout

T = TypeVar("T")

COMPARED_EVERY = 100
"""Steps between two comparisons of the weights of all ranks: 35 ms for 11 million parameters."""


class TrainingStep:
    """Computes and applies the steps of a training.

    Parameters
    ----------
    workers : DataParallel
        Workers that have been entered.
    config : TrainerConfig
    train_data, validation_data : TrainingData

    Attributes
    ----------
    group : DataParallel
        The ranks that run the collective methods.
    optimizers : Optimizers
    """

    def __init__(
        self,
        workers: DataParallel[LanguageModel],
        config: TrainerConfig,
        train_data: TrainingData,
        validation_data: TrainingData,
    ) -> None:
        self.group = workers
        self._workers = workers
        self._config = config
        self._train_data, self._calibration_data = hold_back(train_data, config)
        self._validation_data = validation_data
        modules = workers.replicas[0].modules()
        self._has_dropout = any(isinstance(module, Dropout) and module.p > 0 for module in modules)
        self.optimizers = Optimizers(workers.replicas[0], workers.flat, config, workers.shard)
        self.optimizers.relocate(workers.share_memory)

    def start(self) -> None:
        """Start the worker processes, if any, once everything has been loaded."""
        self._workers.start(self)

    @collective
    def gradients(self, step: int) -> tuple[float, float]:
        """Compute and clip the gradient of a step.

        Parameters
        ----------
        step : int
            Counted from 0; batches and dropout masks are functions of it.

        Returns
        -------
        loss : float
            In nats per token.
        norm : float
            Norm of the gradient before clipping.
        """
        config, length, data = self._config, self._config.context_length, self._train_data
        accumulation, count = config.gradient_accumulation_steps, self._workers.total_replicas
        numbers = range(step * accumulation, (step + 1) * accumulation)
        total_targets = data.targets_of_batches(config.seed, numbers, config.batch_size, length)
        before = self._workers.first_replica  # replicas of other ranks

        def shard(index: int) -> Iterator[tuple[Ids, float]]:
            """Yield a replica's sequences and their weight, batch by batch, drawn only when needed."""
            for number in numbers:
                shards = data.deal(config.seed, number, config.batch_size, length, config.sampling, count)
                starts = shards[before + index]
                if len(starts):
                    yield starts, data.count_targets(starts, length) / total_targets

        def prepare(replica: LanguageModel, index: int, batch: int) -> None:
            if not replica.training:
                replica.train()
            if self._has_dropout:
                reseed_dropout(replica, (config.seed, step, before + index, batch))

        def loss(replica: LanguageModel, starts: Ids) -> Tensor:
            return batch_loss(replica, data.read(starts, length))

        shards = [shard(index) for index in range(self._workers.num_replicas)]
        total = self._workers.compute_gradients(shards, prepare, loss)
        return total, self._workers.clip_gradients(config.max_grad_norm)

    def update(self, step: int) -> float:
        """Apply the gradient, and return the learning rate."""
        rate = learning_rate(self._config, step)
        self.apply(rate)
        if self.optimizers.is_averaged(step):
            self._average(step)
        if (step + 1) % COMPARED_EVERY == 0:
            self.compare_weights(step + 1)
        return rate

    @collective
    def apply(self, rate: float) -> None:
        """Apply the gradient at a learning rate."""
        self._workers.update(lambda: self.optimizers.step(rate, self._workers.parallel_for))

    @collective
    def _average(self, step: int) -> None:
        self._workers.update(lambda: self.optimizers.average(step, self._workers.parallel_for))

    @collective
    def calibrate(self) -> float | None:
        """Divide the logits by the temperature that fits the data held back from the training, if there is such.

        Returns
        -------
        float or None
            The temperature.
        """
        data, length = self._calibration_data, self._config.context_length
        if data is None:
            return None
        batches = self._batches(data.sequence_starts(length, max(TOKENS // length, 1)))

        def losses(temperatures: Sequence[float]) -> Sequence[float]:
            def measure(replica: LanguageModel, batch: Ids) -> list[float]:
                return tempered_losses(replica.eval(), data.read(batch, length), temperatures)

            return self._workers.sum_losses(batches, measure) or []

        def divide(gain: Parameter) -> None:
            np.multiply(gain.data, 1 / temperature, out=gain.data)

        temperature = fit_temperature(losses)
        gains = logit_gains(self._workers.replicas[0])
        self._workers.update(lambda: self._workers.parallel_for(divide, gains))
        return temperature

    def _batches(self, starts: Ids) -> list[Ids]:
        """Return sequences in batches, each as large as a replica's part of a training batch."""
        size = max(self._config.batch_size // self._workers.total_replicas, 1)
        return [starts[first : first + size] for first in range(0, len(starts), size)]

    def compare_weights(self, step: int) -> None:
        """Compare the weights of all ranks after a step, if there are several.

        Raises
        ------
        RankError
            If a rank has other weights than rank 0.
        """
        if self._workers.ranks.several:
            self._compare(step)

    @collective
    def _compare(self, step: int) -> None:
        self._workers.compare_weights(step)

    def save_state(self, write: Callable[[WritableState], T]) -> T:
        """Call a function with the optimizer's state, which streams from all ranks if it is sharded.

        Parameters
        ----------
        write : callable
            From named arrays to any value.

        Returns
        -------
        object
            That value.
        """
        if self._workers.shard is None:
            return write(self.optimizers.state_dict())
        saved: T = values([self._stream_state(write=write)])[0]
        return saved

    @collective
    def _stream_state(self, *, write: Callable[[WritableState], object] | None = None) -> Result:
        return stream_state(self._workers.communicator, list(self.optimizers.state_arrays()), write)

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return bool(np.isfinite(self._workers.flat.data).all())

    @collective
    def evaluate(self, starts: Ids, *, stop: Callable[[], bool] = lambda: False) -> tuple[float, int] | None:
        """Measure the loss on sequences of the held-out text.

        Parameters
        ----------
        starts : ndarray of int, shape (N,)
            Index of each sequence.
        stop : callable
            Called before each batch; the evaluation ends if it returns True.

        Returns
        -------
        total : float
            Summed loss, in nats.
        tokens : int
            Number of predicted tokens. None instead of both if `stop` returned True.
        """
        length, data = self._config.context_length, self._validation_data

        def loss(replica: LanguageModel, batch: Ids) -> tuple[float, int]:
            targets = data.count_targets(batch, length)
            return batch_loss(replica.eval(), data.read(batch, length)).item() * targets, targets

        if not len(starts):
            return 0.0, 0
        sums = self._workers.sum_losses(self._batches(starts), loss, stop=stop)
        return None if sums is None else (sums[0], int(sums[1]))
