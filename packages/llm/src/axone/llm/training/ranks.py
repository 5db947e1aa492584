"""Workers of a rank, as a TrainerConfig describes them."""

from __future__ import annotations

from typing import Any, Literal

from axone.llm.model import LanguageModel
from axone.llm.runtime import resources
from axone.llm.runtime.communicator import Communicator
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.config import TrainerConfig


def workers_of_rank(config: TrainerConfig, communicator: Communicator) -> tuple[int, int]:
    """Return the numbers of workers and of replicas of each rank.

    By default a machine's cores are divided among its ranks. A rank that has fewer sequences of a batch than workers has a
    single replica, and the workers are the threads of its operations.

    Parameters
    ----------
    config : TrainerConfig
    communicator : Communicator

    Returns
    -------
    workers, replicas : int
    """
    if communicator.world_size == 1:
        return config.num_workers, config.num_replicas
    workers = config.workers or communicator.default_workers or config.num_workers
    return workers, workers if workers <= config.batch_size // communicator.world_size else 1


def data_parallel(
    model: LanguageModel, config: TrainerConfig, communicator: Communicator
) -> DataParallel[LanguageModel]:
    """Return the workers of this rank, to be entered."""
    workers, replicas = workers_of_rank(config, communicator)
    shards: Literal["elements", "matrices"] | None = None
    if config.shard_optimizer:
        shards = "matrices" if config.optimizer == "muon" else "elements"
    return DataParallel(model, replicas, num_workers=workers, allow_fork=True, communicator=communicator, shards=shards)


def environment(config: TrainerConfig, communicator: Communicator) -> dict[str, Any]:
    """Return the environment on which the bits of a training depend: libraries, workers and ranks."""
    workers, replicas = workers_of_rank(config, communicator)
    ranks = communicator.world_size
    return {**resources.environment(), "replicas": replicas, "workers": workers, "ranks": ranks}
