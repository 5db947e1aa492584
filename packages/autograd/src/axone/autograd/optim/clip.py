"""Gradient clipping by the norm of all gradients together.

References
----------
.. [1] R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks",
   https://arxiv.org/abs/1211.5063
"""

import math
from collections.abc import Iterable

import numpy as np

from axone.autograd.tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients in place so that their norm together is at most `max_norm`.

    Parameters
    ----------
    params : iterable of Tensor
        Those whose gradients count; one without a gradient counts as zero.
    max_norm : float
        The largest Euclidean norm that remains; infinity only measures. A norm that is not finite scales nothing either.

    Returns
    -------
    float
        The norm before.

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
        raise ValueError(f"max_norm must be positive, and is {max_norm}")
    gradients = [p.grad for p in params if p.grad is not None]
    norm = math.sqrt(math.fsum(float(np.vdot(g, g)) for g in gradients))
    if norm > max_norm and math.isfinite(norm):
        scale = max_norm / norm
        for g in gradients:
            np.multiply(g, scale, out=g)
    return norm
