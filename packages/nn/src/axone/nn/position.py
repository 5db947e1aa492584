"""RotaryEmbedding: rotary positions as a layer, with the angles of each position.

References
----------
.. [1] J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
   https://arxiv.org/abs/2104.09864
.. [2] A. Dubey et al., "The Llama 3 Herd of Models", https://arxiv.org/abs/2407.21783
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn.functional import apply_rotary
from axone.nn.functional.validation import shape_error
from axone.nn.module import Module

Positions = NDArray[np.integer[Any]]
"""Positions of rotary embeddings, of shape (T,) or (B, T)."""
_Last = tuple[Positions, np.dtype[Any], tuple[Array, Array]]
Scaling = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From the angles between two positions to other angles, such as `Llama3Scaling`."""


@dataclass(frozen=True)
class Llama3Scaling:
    """Rotary scaling of Llama 3: slower slow rotations, so that a model trained on short texts reads longer ones.

    Channels that rotate at least `high_freq_factor` times within the original context keep their angles. Channels that
    rotate at most `low_freq_factor` times rotate `factor` times slower. In between, the angles are interpolated.

    Parameters
    ----------
    factor : float, default 8.0
        Ratio of the new context length to the original one.
    low_freq_factor, high_freq_factor : float, default 1.0 and 4.0
        Rotations within the original context.
    original_context_length : int, default 8192
        In tokens.

    Raises
    ------
    ValueError
        If the factors are not positive, or not in ascending order.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192

    def __post_init__(self) -> None:
        if not (self.factor > 0 and 0 < self.low_freq_factor < self.high_freq_factor):
            raise ValueError(f"the factors of {self} must be positive, and low_freq_factor below high_freq_factor")

    def __call__(self, speeds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scaled angles between two positions, one for each channel.

        Parameters
        ----------
        speeds : ndarray, shape (D / 2,)
            The angles before scaling, in radians.

        Returns
        -------
        ndarray, shape (D / 2,)
        """
        rotations = self.original_context_length * speeds / (2 * math.pi)
        keep = np.clip((rotations - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0, 1)
        return speeds * (keep + (1 - keep) / self.factor)


class RotaryEmbedding(Module):
    """Rotate the channels of queries and keys by angles that grow with the position.

    Channel i of D, paired with channel ``i + D / 2``, rotates by ``theta ** (-2 i / D)`` radians from one position to the
    next. It has no parameters.

    Parameters
    ----------
    head_dim : int
        D, even.
    theta : float, default 10000.0
        The base of the angles.
    scaling : callable, optional
        Changes the angles for longer texts, such as `Llama3Scaling`.

    Attributes
    ----------
    speeds : ndarray, shape (D / 2,)
        The angle by which each channel rotates from one position to the next, in radians.

    Raises
    ------
    ValueError
        If `head_dim` is odd.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import RotaryEmbedding
    >>> rotary = RotaryEmbedding(2)
    >>> rotary(Tensor(np.array([[1.0, 0.0], [1.0, 0.0]]))).data.round(3)
    array([[1.   , 0.   ],
           [0.54 , 0.841]])
    """

    def __init__(self, head_dim: int, *, theta: float = 10000.0, scaling: Scaling | None = None) -> None:
        if head_dim % 2:
            raise ValueError(f"head_dim ({head_dim}) must be even")
        self.head_dim = head_dim
        self.theta = theta
        self.scaling = scaling
        speeds = theta ** (-np.arange(0, head_dim, 2) / head_dim)
        self.speeds = speeds if scaling is None else scaling(speeds)
        self._known = (
            np.empty((0, head_dim // 2)),
            np.empty((0, head_dim // 2)),
        )  # cosines and sines, a row per position
        self._last: _Last | None = None

    def __call__(self, x: Tensor, positions: Positions | None = None) -> Tensor:
        """Return the heads, rotated.

        Parameters
        ----------
        x : Tensor, shape (..., T, D)
        positions : ndarray of int, broadcasts to (..., T), optional
            By default ``0, ..., T - 1``.

        Returns
        -------
        Tensor, shape (..., T, D)
        """
        if x.ndim < 2 or x.shape[-1] != self.head_dim:
            raise shape_error(self._summary(), f"(..., T, {self.head_dim})", x.shape)
        cos, sin = self.tables(np.arange(x.shape[-2]) if positions is None else positions, x.dtype)
        return apply_rotary(x, cos, sin)

    def tables(self, positions: Positions, dtype: DTypeLike = np.float32) -> tuple[Array, Array]:
        """Return the cosines and sines of the angles at some positions.

        Parameters
        ----------
        positions : ndarray of int, shape (...)
            Not negative.
        dtype : dtype, default float32
            Of the result; angles are computed in float64.

        Returns
        -------
        cos, sin : ndarray, shape (..., D / 2)

        Raises
        ------
        ValueError
            If a position is negative.
        """
        positions, dtype = np.asarray(positions), np.dtype(dtype)
        last = self._last  # one read: other threads may write it
        if last is not None and last[0] is positions and last[1] == dtype:
            return last[2]
        if positions.size and positions.min() < 0:
            raise ValueError(f"positions (from {positions.min()}) must be at least 0")
        cos, sin = self._first(int(positions.max(initial=-1)) + 1)
        tables = cos[positions].astype(dtype), sin[positions].astype(dtype)
        if not positions.flags.writeable:  # the layers of a decoder ask for the same position one after the other
            for table in tables:
                table.flags.writeable = False
            self._last = positions, dtype, tables
        return tables

    def _first(self, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the cosines and sines of at least the first `length` positions, computed once."""
        known = self._known
        if len(known[0]) < length:
            angles = np.outer(np.arange(max(length, 2 * len(known[0]))), self.speeds)
            self._known = known = np.cos(angles), np.sin(angles)
        return known

    def extra_repr(self) -> str:
        """Return the layer's size."""
        return f"{self.head_dim}, theta={self.theta:g}"
