"""Gradient clipping by the global norm.

References
----------
.. [1] R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks",
   https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients in place so that their global norm is at most `max_norm`.

    Parameters
    ----------
    params : iterable of Tensor
        The parameters; one without a gradient counts as zero.
    max_norm : float
        The upper limit of the Euclidean norm; infinity only measures. A norm that is not finite scales nothing either.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    ValueError
        If `max_norm` is not positive.

    Examples
    --------
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.optim import clip_grad_norm
    >>> w = Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_norm([w], max_norm=1.0)
    10.0
    >>> w.grad
    array([0.6, 0.8], dtype=float32)
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm ({max_norm}) must be positive")
    gradients = [p.grad for p in params if p.grad is not None]
    norm = _norm(gradients)
    if norm > max_norm and math.isfinite(norm):
        scale = max_norm / norm
        for g in gradients:
            if g.itemsize == 2:  # float16 cannot hold a scale below 6e-8
                np.multiply(g, scale, out=g, dtype=np.float32, casting="same_kind")
            else:
                np.multiply(g, scale, out=g)
    return norm


def _norm(gradients: Sequence[Array]) -> float:
    """Return the Euclidean norm of all gradients together."""
    wide = [g.astype(np.float64) if g.itemsize == 2 else g for g in gradients]  # float16 squares overflow above 256
    norm = math.sqrt(_sum_of_squares(wide))
    if not math.isfinite(norm):
        largest = max(float(np.max(np.abs(g), initial=0)) for g in wide)
        if math.isfinite(largest):  # only the squares overflow, as those of float32 do above 2e19
            norm = largest * math.sqrt(_sum_of_squares([g / largest for g in wide]))
    return norm


def _sum_of_squares(gradients: Sequence[Array]) -> float:
    try:
        return math.fsum(float(np.vdot(g, g)) for g in gradients)
    except OverflowError:
        return math.inf
