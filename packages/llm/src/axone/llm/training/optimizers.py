"""Optimizers and learning rate of a training, as a TrainerConfig describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from axone.autograd.optim import (
    SGD,
    AdamW,
    Muon,
    Optimizer,
    ParallelMap,
    cosine,
    linear_decay,
    split_matrices,
    trapezoid,
)
from axone.llm.runtime.data_parallel import FlatParameters
from axone.llm.training.config import TrainerConfig
from axone.nn import Module

LOOKED_UP = ("embedding", "position", "head")
"""Parts of the names of matrices whose rows are looked up one by one: AdamW updates them, not Muon."""


class Optimizers:
    """The optimizers of a model, each with its part of the parameters.

    Parameters
    ----------
    module : Module
    flat : FlatParameters
        The module's parameters.
    config : TrainerConfig
    """

    def __init__(self, module: Module, flat: FlatParameters, config: TrainerConfig) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        whole = [
            {"params": [flat.matrices], "weight_decay": decay},
            {"params": [flat.vectors], "weight_decay": 0.0},
        ]
        self._by_name: dict[str, Optimizer] = {}
        if config.optimizer == "adamw":
            self._by_name["adamw"] = AdamW(whole, lr=rate, betas=config.betas)
        elif config.optimizer == "sgd":
            self._by_name["sgd"] = SGD(whole, lr=rate, momentum=config.momentum)
        else:
            trained = (item for item in module.named_parameters() if item[1].requires_grad)
            hidden, rest = split_matrices(trained, exclude=LOOKED_UP)
            matrices = [parameter for parameter in rest if parameter.ndim == 2]
            groups = [
                {"params": matrices, "weight_decay": decay},
                {"params": [flat.vectors], "weight_decay": 0.0},
            ]
            scaled = [{"params": hidden, "lr_scale": config.muon_learning_rate / rate}]
            self._by_name["adamw"] = AdamW(groups, lr=rate, betas=config.betas)
            self._by_name["muon"] = Muon(scaled, lr=rate, momentum=config.momentum)

    def step(self, rate: float, parallel: ParallelMap) -> None:
        """Update all parameters.

        Parameters
        ----------
        rate : float
            Learning rate.
        parallel : callable
            Runs the updates of independent blocks.
        """
        for optimizer in self._by_name.values():
            optimizer.lr = rate
            optimizer.step(parallel=parallel)

    def relocate(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Move the state of the optimizers into the arrays that `move` returns."""
        for optimizer in self._by_name.values():
            optimizer.relocate(move)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state of the optimizers as named arrays, without copies."""
        return {
            f"{name}.{key}": array
            for name, optimizer in self._by_name.items()
            for key, array in optimizer.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state belongs to other parameters or other optimizers.
        """
        extra = [name for name in state if name.partition(".")[0] not in self._by_name]
        if extra:
            raise ValueError(f"the state belongs to another optimizer: {', '.join(extra[:5])} is not expected")
        for name, optimizer in self._by_name.items():
            prefix = f"{name}."
            optimizer.load_state_dict(
                {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
            )


def learning_rate(config: TrainerConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if config.schedule == "constant":
        return config.learning_rate * min((step + 1) / max(config.warmup, 1), 1.0)
    rates = {"max_lr": config.learning_rate, "min_lr": config.last_learning_rate}
    if config.schedule == "trapezoid":
        return trapezoid(
            step,
            **rates,
            warmup_steps=config.warmup,
            cooldown_steps=round(config.cooldown * config.steps),
            total_steps=config.steps,
        )
    decay = cosine if config.schedule == "cosine" else linear_decay
    return decay(step, **rates, warmup_steps=config.warmup, total_steps=config.steps)
