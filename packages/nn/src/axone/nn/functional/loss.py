"""Cross-entropy of logits and the classes that were right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, needs_grad, record


def cross_entropy(logits: Tensor, targets: NDArray[np.integer[Any]], *, ignore_index: int = -100) -> Tensor:
    """Return the mean negative log-probability of the targets, in nats.

    With ``p = softmax(logits)`` and N targets, the gradient of a row is ``(p - one_hot(target)) / N``; it is computed
    in the forward, in the one buffer that held the shifted logits.

    Parameters
    ----------
    logits : Tensor, shape (..., V)
        Unnormalized log-probabilities.
    targets : ndarray of int, shape (...)
        The class of each row, in ``[0, V)``.
    ignore_index : int, default -100
        A target that does not count.

    Returns
    -------
    Tensor, shape ()
        Zero if no target counts.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    IndexError
        If a target is out of its range.
    """
    targets = np.asarray(targets)
    if logits.ndim == 0 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"cross_entropy needs logits of shape (..., V) and targets of shape (...), and got {logits.shape} and "
            f"{targets.shape}"
        )
    classes, shape = logits.shape[-1], logits.shape
    chosen = targets.reshape(-1)  # (N,)
    kept = chosen != ignore_index
    everything = bool(kept.all())
    if not everything:
        chosen = np.where(kept, chosen, 0)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= classes):
        raise IndexError(
            f"cross_entropy needs targets from 0 to {classes - 1} or {ignore_index}, and these go from {chosen.min()} "
            f"to {chosen.max()}"
        )
    rows = np.arange(chosen.size)
    count = max(int(kept.sum()), 1)

    flat = logits.data.reshape(-1, classes)  # (N, V)
    p = flat - flat.max(axis=-1, keepdims=True, initial=-np.inf)
    picked = p[rows, chosen]  # (N,), a copy
    np.exp(p, out=p)
    total = p @ np.ones(classes, p.dtype)  # (N,)
    losses = np.log(total) - picked
    loss = (losses if everything else losses[kept]).sum() / p.dtype.type(count)
    if needs_grad(logits):
        p /= total[:, None]
        p[rows, chosen] -= 1
        p /= count
        if not everything:
            p[~kept] = 0

    def vjp(g: Array) -> tuple[Array]:
        if g != 1:
            np.multiply(p, g, out=p)
        return (p.reshape(shape),)

    return record("cross_entropy", np.asarray(loss, dtype=p.dtype), (logits,), vjp)
