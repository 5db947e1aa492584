"""WeightAverage: the mean of the weights over the last steps of a training.

Weights move around a minimum as long as the learning rate is above zero; their mean is closer to it, and costs a pass over
the weights per step.

References
----------
.. [1] P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization",
   https://arxiv.org/abs/1803.05407
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd.optim import ParallelMap
from axone.llm.runtime.communicator import Flat
from axone.llm.runtime.data_parallel import blocks


class WeightAverage:
    """The mean of flat weights over some steps.

    Parameters
    ----------
    weights : ndarray, shape (N,)

    Attributes
    ----------
    weights, mean : ndarray, shape (N,)
    count : int
        Number of steps in the mean.
    """

    def __init__(self, weights: Flat) -> None:
        self.weights = weights
        self.mean: Flat = weights.copy()
        self.count = 0

    def clear(self) -> None:
        """Begin a new mean."""
        self.count = 0

    def add(self, parallel: ParallelMap) -> None:
        """Add the weights to the mean, block by block."""
        self.count += 1

        def update(block: slice) -> None:
            mean, weights = self.mean[block], self.weights[block]
            if self.count == 1:
                mean[...] = weights
            else:
                mean += (weights - mean) / self.count

        parallel(update, blocks(0, self.weights.size))

    def apply(self, parallel: ParallelMap) -> None:
        """Replace the weights by their mean, block by block."""

        def update(block: slice) -> None:
            self.weights[block] = self.mean[block]

        parallel(update, blocks(0, self.weights.size))

    def relocate(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Move the mean into the array that `move` returns."""
        self.mean = move(self.mean)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return mean and count as named arrays; the mean is not copied."""
        return {"mean": self.mean, "count": np.array([self.count], np.int64)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state belongs to other weights.
        """
        shapes = {name: array.shape for name, array in state.items()}
        expected = {name: array.shape for name, array in self.state_dict().items()}
        if shapes != expected:
            raise ValueError(f"the state of the average has the shapes {shapes}, it must have {expected}")
        self.mean[...] = state["mean"]
        self.count = int(state["count"][0])
