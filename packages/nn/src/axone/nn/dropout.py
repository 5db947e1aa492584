"""Dropout layer, active in training only."""

from collections.abc import Sequence

import numpy as np

from axone.autograd import Tensor
from axone.nn.functional import dropout
from axone.nn.module import Module


class Dropout(Module):
    """In training, zero each element with probability `p` and scale up the others; in evaluation, do nothing.

    Parameters
    ----------
    p : float
        The probability, in [0, 1).
    rng : numpy.random.Generator, optional
        The generator of the masks; by default a fresh one.

    Raises
    ------
    TypeError, ValueError
        If `p` is not a number in [0, 1).

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
        if not isinstance(p, (int, float, np.number)):
            raise TypeError(f"p must be a number in [0, 1), got {p!r}")
        if not 0 <= p < 1:
            raise ValueError(f"p ({p}) must be in [0, 1)")
        self.p = p
        self.rng = np.random.default_rng(rng)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x`, in training with random elements zeroed.

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
    """Seed all dropout layers of a module from a key, such as (seed, step, worker), and their position.

    The masks of a step then follow from the key, so that no generator state has to be saved to resume training.

    Parameters
    ----------
    module : Module
    key : sequence of int
        Non-negative integers.
    """
    layers = [m for m in module.modules() if isinstance(m, Dropout)]
    for place, layer in enumerate(layers):
        layer.rng = np.random.default_rng([*key, place])
