"""What one step of training is: a batch's gradient, clipped, and the update; and the loss on held-out text.

It works on replicas that share one model's weights. What is done when, saved and told to whom, the `trainer` knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from axone.autograd import Tensor
from axone.llm.data.dataset import TokenDataset
from axone.llm.data.sampler import batch_starts
from axone.llm.loss import next_token_loss
from axone.llm.model import LanguageModel
from axone.llm.runtime.collectives import collective
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.config import TrainerConfig
from axone.llm.training.optimizers import Optimizers, learning_rate
from axone.llm.types import Ids
from axone.nn import reseed_dropout


class TrainingStep:
    """Computes and applies the steps of a training.

    Parameters
    ----------
    workers : DataParallel
        Entered.
    config : TrainerConfig
    train_data, validation_data : TokenDataset

    Attributes
    ----------
    group : ThreadGroup or ProcessGroup
        The ranks that run the collective methods.
    optimizers : Optimizers
    """

    def __init__(
        self,
        workers: DataParallel[LanguageModel],
        config: TrainerConfig,
        train_data: TokenDataset,
        validation_data: TokenDataset,
    ) -> None:
        self.group = workers.group
        self._workers = workers
        self._config = config
        self._train_data = train_data
        self._validation_data = validation_data
        self.optimizers = Optimizers(workers.replicas[0], workers.flat, config)
        self.optimizers.relocate(workers.share_memory)

    def start(self) -> None:
        """Start what works in processes: call it when everything is loaded."""
        self._workers.start(self)

    @collective
    def gradients(self, step: int) -> tuple[float, float]:
        """Compute a step's gradient, and clip it.

        Parameters
        ----------
        step : int
            Counted from zero; batches and dropout are functions of it.

        Returns
        -------
        loss : float
            In nats a token.
        norm : float
            The gradient's, before clipping.
        """
        config, count = self._config, self._workers.num_workers
        size, turns, length = config.batch_size, config.gradient_accumulation_steps, config.context_length
        cuts = [size * i // count for i in range(count + 1)]

        def starts(begin: int, end: int) -> Iterator[Ids]:
            """Return where a worker's windows start, turn after turn, none before it is needed."""
            for number in range(step * turns, (step + 1) * turns):
                drawn = batch_starts(config.seed, number, size, length, len(self._train_data), config.sampling)
                yield drawn[begin:end]

        shares = [starts(begin, end) for begin, end in itertools.pairwise(cuts)]
        weights = [(end - begin) / (size * turns) for begin, end in itertools.pairwise(cuts)]

        def prepare(replica: LanguageModel, worker: int, turn: int) -> None:
            if not replica.training:
                replica.train()
            if replica.config.dropout:
                reseed_dropout(replica, (config.seed, step, worker, turn))

        def loss(replica: LanguageModel, starts: Ids) -> Tensor:
            return next_token_loss(replica, *self._train_data.read(starts, length))

        total = self._workers.compute_gradients(shares, prepare, loss, weights)
        return total, self._workers.clip_gradients(config.max_grad_norm)

    def update(self, step: int) -> float:
        """Apply the gradient, and return the learning rate."""
        rate = learning_rate(self._config, step)
        self.apply(rate)
        return rate

    @collective
    def apply(self, rate: float) -> None:
        """Apply the gradient at a learning rate."""
        self.optimizers.step(rate, self._workers.parallel_for)

    def is_finite(self) -> bool:
        """Tell whether all weights are finite."""
        return bool(np.isfinite(self._workers.flat.data).all())

    @collective
    def evaluate(self, starts: Ids, *, stop: Callable[[], bool] = lambda: False) -> tuple[float, int] | None:
        """Measure windows of the held-out text.

        Parameters
        ----------
        starts : ndarray of int, shape (N,)
            Where they start.
        stop : callable
            Asked now and then whether to leave it.

        Returns
        -------
        total : float
            The summed loss, in nats.
        tokens : int
            How many were predicted. None instead of both if it was left.
        """
        length = self._config.context_length
        size = max(self._config.batch_size // self._workers.num_workers, 1)
        batches = [starts[first : first + size] for first in range(0, len(starts), size)]

        def loss(replica: LanguageModel, batch: Ids) -> tuple[float, int]:
            inputs, targets = self._validation_data.read(batch, length)
            return next_token_loss(replica.eval(), inputs, targets).item() * targets.size, targets.size

        return self._workers.sum_losses(batches, loss, stop=stop)
