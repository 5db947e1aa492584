"""Adam and AdamW: a step in the direction of the mean gradient, divided by its recent size.

With the moments m and v, the gradient g and the number of steps t::

    m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
    p = (1 - lr decay) p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

References
----------
.. [1] D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980
.. [2] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd.arrays import Array
from axone.autograd.optim.optimizer import (
    Group,
    Optimizer,
    ParallelMap,
    State,
    blocks,
    copy_state,
    flat_view,
    sequential,
)
from axone.autograd.tensor import Tensor


class AdamW(Optimizer):
    """Adam with weight decay apart from the gradient.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them with options of their own.
    lr : float, default 1e-3
        The learning rate.
    betas : tuple of float, default (0.9, 0.999)
        The decay rates of the two moments, each in [0, 1).
    eps : float, default 1e-8
        Added to the denominator.
    weight_decay : float, default 0.01
        The share of `lr` by which a weight shrinks at each step.

    Raises
    ------
    ValueError
        If an option is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        for group in self.groups:
            _check(group)
        self._moments = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in self.parameters()]

    def step(self, *, parallel: ParallelMap = sequential) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        jobs: list[_Job] = []
        moments = iter(self._moments)
        for group in self.groups:
            factors = _Factors.of(group, self.steps)
            for p in group["params"]:
                m, v = next(moments)
                if p.grad is None:
                    continue
                data, g, m, v = flat_view(p.data, "a parameter"), p.grad.reshape(-1), m.reshape(-1), v.reshape(-1)
                jobs += [(factors, data[part], g[part], m[part], v[part]) for part in blocks(data)]
        parallel(_update, jobs)

    def state_dict(self) -> State:
        """Return the number of steps and both moments of each parameter."""
        state: State = {"steps": np.asarray(self.steps)}
        for i, (m, v) in enumerate(self._moments):
            state[f"{i}.first_moment"], state[f"{i}.second_moment"] = m, v
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a saved state, bit for bit."""
        into = self.state_dict()
        copy_state(into, state)
        self.steps = int(into["steps"])


def _check(group: Group) -> None:
    b1, b2 = group["betas"]
    if not (0 <= b1 < 1 and 0 <= b2 < 1):
        raise ValueError(f"betas must be in [0, 1), and are {group['betas']}")
    if group["lr"] < 0 or group["eps"] < 0 or group["weight_decay"] < 0:
        raise ValueError(
            f"lr, eps and weight_decay must not be negative, and are {group['lr']}, {group['eps']} and "
            f"{group['weight_decay']}"
        )


class _Factors:
    """The numbers of one step, the bias corrections folded into them."""

    __slots__ = ("b1", "b2", "decay", "eps", "lr", "root")

    def __init__(self, b1: float, b2: float, lr: float, root: float, eps: float, decay: float) -> None:
        self.b1, self.b2, self.lr, self.root, self.eps, self.decay = b1, b2, lr, root, eps, decay

    @classmethod
    def of(cls, group: Group, steps: int) -> _Factors:
        """Return the factors of a group at a step, counted from one."""
        b1, b2 = group["betas"]
        lr = group["lr"]
        return cls(
            b1=b1,
            b2=b2,
            lr=lr / (1 - b1**steps),
            root=1 / math.sqrt(1 - b2**steps),
            eps=group["eps"],
            decay=1 - lr * group["weight_decay"],
        )


_Job: TypeAlias = tuple[_Factors, Array, Array, Array, Array]


def _update(job: _Job) -> None:
    """Update one block, in place and with two temporaries."""
    factors, p, g, m, v = job
    m *= factors.b1
    scratch = g * (1 - factors.b1)
    m += scratch
    v *= factors.b2
    np.multiply(g, g, out=scratch)
    scratch *= 1 - factors.b2
    v += scratch
    np.sqrt(v, out=scratch)
    scratch *= factors.root
    scratch += factors.eps
    np.divide(m, scratch, out=scratch)
    scratch *= factors.lr
    p *= factors.decay
    p -= scratch
