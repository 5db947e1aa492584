"""Dropout as a layer that is active in training only."""

from collections.abc import Sequence

import numpy as np

from axone.autograd import Tensor
from axone.nn.functional import dropout
from axone.nn.module import Module


class Dropout(Module):
    """Zero each element with probability `p` and scale the rest up, in training; else do nothing.

    Parameters
    ----------
    p : float
        In [0, 1).
    rng : numpy.random.Generator, optional
        Where the masks come from; None draws a fresh one.

    Raises
    ------
    ValueError
        If `p` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Dropout
    >>> layer = Dropout(0.5, rng=np.random.default_rng(0))
    >>> sorted(set(layer(Tensor(np.ones(100))).data.tolist()))
    [0.0, 2.0]
    >>> layer.eval()(Tensor([1.0, 2.0])).data
    array([1., 2.], dtype=float32)
    """

    def __init__(self, p: float, *, rng: np.random.Generator | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout needs p in [0, 1), and it is {p}")
        self.p = p
        self.rng = np.random.default_rng(rng)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x`, thinned out while training.

        Parameters
        ----------
        x : Tensor, shape (...)

        Returns
        -------
        Tensor, shape (...)
        """
        return dropout(x, self.p, rng=self.rng) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        """Return the layer's probability."""
        return f"{self.p}"


def reseed_dropout(module: Module, key: Sequence[int]) -> None:
    """Make all masks of a module a function of `key`, such as (seed, step, worker), and of the layer's place.

    Nothing random then has to be saved to resume training.

    Parameters
    ----------
    module : Module
    key : sequence of int
        Not negative.
    """
    layers = [m for m in module.modules() if isinstance(m, Dropout)]
    for place, layer in enumerate(layers):
        layer.rng = np.random.default_rng([*key, place])
