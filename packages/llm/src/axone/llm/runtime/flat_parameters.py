"""Flat parameters: the trained parameters of a module, and their gradients, as views of one array each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from axone.autograd import Tensor
from axone.llm.runtime.communicator import Flat
from axone.nn import Module
from axone.nn.extend import Arena, flatten


class FlatParameters:
    """The trained parameters of a module as views of one array: matrices first, then vectors such as biases and gains.

    Frozen parameters stay where they are: they take no memory here, and none in the gradients.

    Parameters
    ----------
    module : Module
        Its trained parameters are moved into the flat array. Loading a state later keeps them there.
    zeros : callable
        From a size and a dtype to an array, for parameters and gradients.

    Attributes
    ----------
    data : ndarray, shape (N,)
    gradient : ndarray, shape (N,)
        The gradient of the module, once `own_gradient` has been called.
    matrices, vectors : Tensor
        The two parts, each as one long parameter for an elementwise optimizer.
    starts : dict of str to int
        Position of each parameter in the flat array.
    """

    def __init__(self, module: Module, zeros: Callable[[int, np.dtype[Any]], Flat] = np.zeros) -> None:
        self._zeros = zeros
        trained = [item for item in module.named_parameters() if item[1].requires_grad]
        named = sorted(trained, key=lambda item: item[1].ndim < 2)
        self._names = [name for name, _ in named]
        parameters = [parameter for _, parameter in named]
        self.data: Flat = flatten(parameters, align=1, allocate=zeros)  # no gaps: the optimizers save state of its size
        ends = list(itertools.accumulate((parameter.size for parameter in parameters), initial=0))
        self.starts = dict(zip(self._names, ends))
        cut = sum(parameter.size for parameter in parameters if parameter.ndim >= 2)
        self._cuts_of_matrices = [end for end in ends if end <= cut]
        self.gradient: Flat = self.data[:0]
        self.matrices = Tensor(self.data[:cut], requires_grad=True)
        self.vectors = Tensor(self.data[cut:], requires_grad=True)

    def bind_gradients(self, module: Module) -> Flat:
        """Return a new flat gradient whose parts are the gradients of a module: the same one or a replica."""
        own = dict(module.named_parameters())
        parameters = [own[name] for name in self._names]
        arena = Arena([parameter.shape for parameter in parameters], self.data.dtype, align=1, allocate=self._zeros)
        for parameter in parameters:
            parameter.grad = arena.take(parameter.shape)
        return arena.data

    def own_gradient(self, gradient: Flat) -> None:
        """Make a flat gradient that of the two long parameters."""
        cut = self.matrices.size
        self.gradient = gradient
        self.matrices.grad, self.vectors.grad = gradient[:cut], gradient[cut:]

    def shard_bounds(self, count: int, *, whole_matrices: bool) -> list[int]:
        """Return the bounds of `count` consecutive shards of about equal size.

        Parameters
        ----------
        count : int
        whole_matrices : bool
            Whether a matrix must not be split, as Muon requires.

        Returns
        -------
        list of int
            Shard i is ``data[bounds[i] : bounds[i + 1]]``.
        """
        size, cut = self.data.size, self.matrices.size
        bounds = [size * i // count for i in range(count + 1)]
        if whole_matrices:
            bounds = [b if b >= cut else min(self._cuts_of_matrices, key=lambda end: abs(end - b)) for b in bounds]
        return bounds
