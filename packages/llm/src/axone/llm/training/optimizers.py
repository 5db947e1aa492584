"""Optimizers and learning rate of a training, as a TrainerConfig describes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
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
from axone.llm.runtime.flat_parameters import FlatParameters
from axone.llm.storage.safetensors import ArrayFile
from axone.llm.training.config import TrainerConfig
from axone.llm.training.weight_average import WeightAverage
from axone.nn import Module

LOOKED_UP = ("embedding", "position", "head")
"""Parts of the names of matrices whose rows are looked up one by one: AdamW updates them, not Muon."""


@dataclass(frozen=True)
class StateArray:
    """An array of the optimizers' state, of which a rank may have a part.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Shape of the whole array.
    start : int
        Position of the part in the flattened array.
    part : ndarray
    is_sharded : bool
        Whether other ranks have the rest; otherwise all have the same array.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    part: NDArray[Any]
    is_sharded: bool = True


class Optimizers:
    """The optimizers of a model, each with its part of the parameters, and the average of the weights.

    Parameters
    ----------
    module : Module
    flat : FlatParameters
        The module's parameters.
    config : TrainerConfig
    shard : slice, optional
        The range of the flat parameters that is updated here, with the state of that range alone; by default all. A
        matrix that Muon updates must be inside or outside.
    """

    def __init__(self, module: Module, flat: FlatParameters, config: TrainerConfig, shard: slice | None = None) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        self._flat, self._shard = flat, shard
        self._ranges: dict[str, list[tuple[int, tuple[int, ...]]]] = {}  # start and shape of each parameter
        self._by_name: dict[str, Optimizer] = {}
        first, last = self._overlap(0, flat.data.size)
        self._average = WeightAverage(flat.data[first:last]) if config.averaged_steps else None
        self._steps, self._first_averaged = config.steps, config.steps - config.averaged_steps
        cut = flat.matrices.size
        vectors = self._own(flat.vectors, cut)
        if config.optimizer == "muon":
            trained = [item for item in module.named_parameters() if item[1].requires_grad]
            starts = {id(parameter): flat.starts[name] for name, parameter in trained}
            hidden, rest = split_matrices(trained, exclude=LOOKED_UP)
            matrices = [parameter for parameter in rest if parameter.ndim == 2]
            groups = [
                {"params": [self._own(p, starts[id(p)]) for p in matrices], "weight_decay": decay},
                {"params": [vectors], "weight_decay": 0.0},
            ]
            scale = config.muon_learning_rate / rate
            scaled = [{"params": [self._own(p, starts[id(p)]) for p in hidden], "lr_scale": scale}]
            self._by_name["adamw"] = AdamW(groups, lr=rate, betas=config.betas)
            self._by_name["muon"] = Muon(scaled, lr=rate, momentum=config.momentum)
            ranges = [(starts[id(p)], p.shape) for p in matrices]
            self._ranges["adamw"] = [*ranges, (cut, flat.vectors.shape)]
            self._ranges["muon"] = [(starts[id(p)], p.shape) for p in hidden]
            return
        whole = [
            {"params": [self._own(flat.matrices, 0)], "weight_decay": decay},
            {"params": [vectors], "weight_decay": 0.0},
        ]
        if config.optimizer == "adamw":
            self._by_name["adamw"] = AdamW(whole, lr=rate, betas=config.betas)
        else:
            self._by_name["sgd"] = SGD(whole, lr=rate, momentum=config.momentum)
        self._ranges[config.optimizer] = [(0, flat.matrices.shape), (cut, flat.vectors.shape)]

    def step(self, rate: float, parallel: ParallelMap) -> None:
        """Update all parameters, or those of the shard.

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

    def is_averaged(self, step: int) -> bool:
        """Return whether the weights after a step, counted from 0, are part of the average."""
        return self._average is not None and step >= self._first_averaged

    def average(self, step: int, parallel: ParallelMap) -> None:
        """Add the weights to their average, which replaces them in the last step.

        Parameters
        ----------
        step : int
            Counted from 0; `is_averaged` is True for it.
        parallel : callable
            Runs independent blocks.
        """
        if self._average is None:
            return
        if self._average.count > step - self._first_averaged:  # it has weights from before: of a shorter plan
            self._average.clear()
        self._average.add(parallel)
        if step == self._steps - 1:
            self._average.apply(parallel)

    def relocate(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Move the state of the optimizers into the arrays that `move` returns."""
        for part in self._parts().values():
            part.relocate(move)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state of the optimizers as named arrays, without copies: that of the shard, if there is one."""
        return {
            f"{name}.{key}": array for name, part in self._parts().items() for key, array in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state belongs to other parameters or other optimizers.
        """
        parts = self._parts()
        extra = [name for name in state if name.partition(".")[0] not in parts]
        if extra:
            raise ValueError(f"the state belongs to another optimizer: {', '.join(extra[:5])} is not expected")
        for name, part in parts.items():
            prefix = f"{name}."
            part.load_state_dict(
                {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
            )

    def state_arrays(self) -> Iterator[StateArray]:
        """Yield the arrays of the state, of which this shard has a part."""
        for name, part in self.state_dict().items():
            optimizer, index, *_ = name.split(".")
            if name == "average.mean":
                yield StateArray(name, self._flat.data.shape, self._overlap(0, self._flat.data.size)[0], part)
                continue
            if not index.isdigit():  # the numbers of updates, which are the same in all shards
                yield StateArray(name, part.shape, 0, part, is_sharded=False)
                continue
            start, shape = self._ranges[optimizer][int(index)]
            own, _ = self._overlap(start, start + math.prod(shape))
            yield StateArray(name, shape, own - start, part)

    def read_state(self, file: ArrayFile) -> None:
        """Restore this shard of the state in a file.

        Raises
        ------
        ValueError
            If the state belongs to other parameters or other optimizers.
        CheckpointError
            If the file is damaged.
        """
        state: dict[str, NDArray[Any]] = {}
        for array in self.state_arrays():
            entry = file.entries.get(array.name)
            if entry is None:
                continue  # `load_state_dict` names it
            if not array.is_sharded:
                state[array.name] = file.read(array.name)
                continue
            if entry.shape != array.shape:
                raise ValueError(f"{array.name} has shape {entry.shape}, it must have {array.shape}")
            state[array.name] = array.part.copy()
            file.read_into(array.name, state[array.name].reshape(-1), first=array.start)
        unexpected = {name: np.empty(0) for name in file.entries if name not in state}
        self.load_state_dict({**state, **unexpected})

    def _parts(self) -> dict[str, Optimizer | WeightAverage]:
        """Return the optimizers and the average, by name."""
        return {**self._by_name} if self._average is None else {**self._by_name, "average": self._average}

    def _own(self, parameter: Tensor, start: int) -> Tensor:
        """Return a parameter, or the part of it in the shard: some rows of a matrix, or elements of a vector."""
        if self._shard is None:
            return parameter
        first, last = self._overlap(start, start + parameter.size)
        shape = (-1, *parameter.shape[1:])
        own = Tensor(self._flat.data[first:last].reshape(shape), requires_grad=True)
        own.grad = self._flat.gradient[first:last].reshape(shape)
        return own

    def _overlap(self, start: int, stop: int) -> tuple[int, int]:
        """Return the part of a range that is in the shard; an empty one if there is none."""
        if self._shard is None:
            return start, stop
        first = min(max(start, self._shard.start), stop)
        return first, max(min(stop, self._shard.stop), first)


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
