"""Adam and AdamW: steps along the mean gradient, divided by the root of the mean squared gradient.

With the moments m and v, the gradient g and the number t of updates of the parameter::

    m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
    p = (1 - lr decay) p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

Adam has no decay.

References
----------
.. [1] D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980
.. [2] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.memory import empty_like
from axone.autograd.optim.optimizer import Group, Kernel, Optimizer, Params, check_at_least_zero


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    params : iterable of Tensor, of Value, or of dict
        The parameters, or groups of them with options of their own.
    lr : float, default 1e-3
        The learning rate.
    betas : tuple of float, default (0.9, 0.999)
        The decay rates of the two moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.01
        Each step multiplies a weight by ``1 - lr * weight_decay``.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Examples
    --------
    Without weight decay for biases, and with half their learning rate:

    >>> from axone.autograd import Tensor
    >>> from axone.autograd.optim import AdamW
    >>> weight = Tensor([[2.0]], requires_grad=True)
    >>> bias = Tensor([0.0], requires_grad=True)
    >>> biases = {"params": [bias], "weight_decay": 0.0, "lr_scale": 0.5}
    >>> optimizer = AdamW([{"params": [weight]}, biases], lr=0.1)
    >>> [group["lr"] for group in optimizer.groups]
    [0.1, 0.05]
    >>> ((weight + bias) ** 2).sum().backward()
    >>> optimizer.step()
    >>> weight, bias
    (Tensor([[1.898]], requires_grad=True), Tensor([-0.05], requires_grad=True))
    """

    state_names = ("first_moment", "second_moment")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _check(self, group: Group) -> None:
        check_at_least_zero(group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        numbers = isinstance(betas, Sequence) and all(isinstance(b, Real) for b in betas)
        if not (numbers and len(betas) == 2 and all(0 <= b < 1 for b in betas)):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")

    def _kernel(self, group: Group, step: int) -> Kernel:
        b1, b2 = group["betas"]
        eps = group["eps"]
        decay = 1 - group["lr"] * group["weight_decay"]
        rate = group["lr"] / (1 - b1**step)  # bias correction: the moments start at zero
        root = 1 / math.sqrt(1 - b2**step)

        def update(p: Array, g: Array, m: Array, v: Array) -> None:
            scratch = np.multiply(g, 1 - b1, out=empty_like(g))
            m *= b1
            m += scratch
            np.multiply(g, g, out=scratch)
            scratch *= 1 - b2
            v *= b2
            v += scratch
            np.sqrt(v, out=scratch)
            scratch *= root
            scratch += eps
            np.divide(m, scratch, out=scratch)
            scratch *= rate
            if decay != 1:
                p *= decay
            p -= scratch

        return update


class Adam(AdamW):
    """Adam: steps along the mean gradient, divided by the root of the mean squared gradient.

    Parameters
    ----------
    params : iterable of Tensor, of Value, or of dict
        The parameters, or groups of them with options of their own.
    lr : float, default 1e-3
        The learning rate.
    betas : tuple of float, default (0.9, 0.999)
        The decay rates of the two moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.

    Raises
    ------
    ValueError
        If an option is out of its range.
    """

    def __init__(
        self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay=0.0)
