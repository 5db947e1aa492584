"""Stochastic gradient descent with momentum.

With the gradient g, the velocity u and the momentum a::

    g = g + decay p          u = a u + g          p = p - lr u

and with Nesterov momentum ``p = p - lr (g + a u)``.

References
----------
.. [1] I. Sutskever et al., "On the importance of initialization and momentum in deep learning",
   https://proceedings.mlr.press/v28/sutskever13.html
"""

from __future__ import annotations

from axone.autograd.arrays import Array
from axone.autograd.optim.optimizer import Group, Kernel, Optimizer, Params, check_at_least_zero


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum.

    Parameters
    ----------
    params : iterable of Tensor, of Value, or of dict
        The parameters, or groups of them with options of their own.
    lr : float
        The learning rate.
    momentum : float, default 0
        The decay rate of the velocity, in [0, 1).
    nesterov : bool, default False
        Whether to use Nesterov momentum.
    weight_decay : float, default 0
        ``weight_decay * parameter`` is added to the gradient.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Examples
    --------
    >>> from axone.autograd import Value
    >>> from axone.autograd.optim import SGD
    >>> x = Value(3.0)
    >>> optimizer = SGD([x], lr=0.25)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     ((x - 1) ** 2).backward()
    ...     optimizer.step()
    >>> x
    Value(1.25, grad=1)
    """

    state_names = ("velocity",)

    def __init__(
        self, params: Params, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    def _check(self, group: Group) -> None:
        check_at_least_zero(group, "lr", "weight_decay")
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum ({group['momentum']}) must be in [0, 1)")
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError("nesterov=True needs a momentum above 0")

    def _kernel(self, group: Group, step: int) -> Kernel:  # noqa: ARG002 - only Adam depends on the step
        lr, momentum, nesterov, decay = (group[name] for name in ("lr", "momentum", "nesterov", "weight_decay"))

        def update(p: Array, g: Array, velocity: Array) -> None:
            step = g + decay * p if decay else g.copy()
            if momentum:
                velocity *= momentum
                velocity += step
                if nesterov:
                    step += momentum * velocity
                else:
                    step[...] = velocity
            step *= lr
            p -= step

        return update
