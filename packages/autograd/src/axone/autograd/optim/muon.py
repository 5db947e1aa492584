"""Muon: orthogonalized momentum, for the matrices of hidden layers.

The momentum of a matrix is replaced by the nearest matrix with orthonormal rows or columns: all singular values become
one. Four steps of a Newton-Schulz iteration bring most of them between 0.7 and 1.2, with matrix products alone.

With the gradient g, the momentum u, its decay rate a and a matrix of n rows and m columns::

    u = a u + (1 - a) g
    w = orthogonal((1 - a) g + a u)
    p = (1 - lr decay) p - lr sqrt(max(1, n/m)) w

Use AdamW for vectors, which have one singular value, and for embeddings and heads, whose rows are looked up one by one.
`split_matrices` splits the parameters of a model accordingly.

References
----------
.. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
   https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from axone.autograd.arrays import Array
from axone.autograd.optim.optimizer import Group, Kernel, Optimizer, Params, check_at_least_zero
from axone.autograd.tensor import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial, chosen for a large slope at zero, see [1]
_STEPS = 4  # five steps from the Frobenius norm end at the same losses
_WIDE = 2  # sides' ratio from which products of the short side alone are faster
_TINY = 1e-7


class Muon(Optimizer):
    """Momentum with orthogonalized updates; for matrices only.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Matrices, or groups of them with options of their own.
    lr : float, default 0.02
        The learning rate: the length of a step along each singular direction.
    momentum : float, default 0.95
        The decay rate of the momentum, in [0, 1).
    nesterov : bool, default True
        Whether to use Nesterov momentum.
    weight_decay : float, default 0
        Each step multiplies a weight by ``1 - lr * weight_decay``.

    Raises
    ------
    ValueError
        If a parameter is not a matrix, or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.autograd.optim import AdamW, Muon, split_matrices
    >>> model = {
    ...     "embedding.weight": Tensor(np.ones((10, 4)), requires_grad=True),
    ...     "hidden.weight": Tensor(np.ones((4, 4)), requires_grad=True),
    ...     "hidden.bias": Tensor(np.zeros(4), requires_grad=True),
    ... }
    >>> matrices, rest = split_matrices(model.items(), exclude=["embedding", "head"])
    >>> len(matrices), len(rest)
    (1, 2)
    >>> optimizers = [Muon(matrices), AdamW(rest)]
    """

    state_names = ("momentum",)
    elementwise = False

    def __init__(
        self,
        params: Params,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    def _check(self, group: Group) -> None:
        check_at_least_zero(group, "lr", "weight_decay")
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum ({group['momentum']}) must be in [0, 1)")
        for p in group["params"]:
            if not isinstance(p, Tensor) or p.ndim != 2:
                what = f"a parameter of shape {p.shape}" if isinstance(p, Tensor) else f"a {type(p).__name__}"
                raise ValueError(f"Muon needs matrices, got {what}: pass it to AdamW, see split_matrices")

    def _kernel(self, group: Group, step: int) -> Kernel:  # noqa: ARG002 - only Adam depends on the step
        lr, momentum, nesterov, decay = (group[name] for name in ("lr", "momentum", "nesterov", "weight_decay"))

        def update(p: Array, g: Array, u: Array) -> None:
            u *= momentum
            u += (1 - momentum) * g
            step = orthogonal((1 - momentum) * g + momentum * u if nesterov else u)
            step *= lr * math.sqrt(max(1, p.shape[0] / p.shape[1]))
            p *= 1 - lr * decay
            p -= step

        return update


def orthogonal(matrix: Array) -> Array:
    """Return approximately the nearest matrix with orthonormal rows or columns, by four Newton-Schulz steps.

    Parameters
    ----------
    matrix : ndarray, shape (n, m)

    Returns
    -------
    ndarray, shape (n, m)
        Has the same singular vectors. Its singular values are at most 1.21, and at least 0.68 if they were at least 0.0052
        times the fourth root of the sum of all fourth powers. Smaller ones grow 140 times. A matrix of zeros stays zero.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Array = matrix.T if tall else matrix  # the products below then have the shorter side
    square = x @ x.T  # NumPy computes half of a product with the own transpose
    # The fourth root of the sum of the fourth powers is at least the largest singular value, and closer to it than the
    # Frobenius norm, which takes one more step.
    scale = np.sqrt(np.linalg.norm(square)) + _TINY
    square /= scale * scale
    x = x / scale
    together = 2 if x.shape[1] >= _WIDE * x.shape[0] else 1
    x = _factor(square, together) @ x
    for _ in range(together, _STEPS, together):
        x = _factor(x @ x.T, together) @ x
    return x.T if tall else x


def _factor(square: Array, steps: int) -> Array:
    """Return the matrix that multiplies x in one step or two, from x times its transpose.

    Two steps at once have fewer products with the long side of x. Four at once lose digits: an error of up to a tenth in
    float32.
    """
    a, b, c = _COEFFICIENTS
    factor: Array = c * (square @ square.T)
    factor += b * square
    factor.flat[:: len(factor) + 1] += a
    if steps > 1:
        factor = _factor((factor @ factor.T) @ square, steps - 1) @ factor
    return factor


def split_matrices(
    named_parameters: Iterable[tuple[str, Tensor]], *, exclude: Sequence[str] = ()
) -> tuple[list[Tensor], list[Tensor]]:
    """Split parameters into the matrices of hidden layers, for Muon, and the rest, for AdamW.

    Parameters
    ----------
    named_parameters : iterable of (str, Tensor)
        From a model's ``named_parameters()``.
    exclude : sequence of str
        A matrix whose name contains one of these belongs to the rest: pass the names of embeddings and heads.

    Returns
    -------
    matrices, rest : list of Tensor
    """
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in named_parameters:
        hidden = parameter.ndim == 2 and not any(part in name for part in exclude)
        (matrices if hidden else rest).append(parameter)
    return matrices, rest
