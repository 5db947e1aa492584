"""Losses: cross-entropy of logits, or of a linear layer without all of its logits, and mean squared error."""

from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty, empty_like, is_grad_enabled, needs_grad, record
from axone.nn.functional.matmul import matmul
from axone.nn.functional.softmax import exp_rows
from axone.nn.functional.validation import check_dtypes
from axone.nn.pytorch import unknown_argument

_MAX_CHUNK = 1 << 24  # logits: 64 MB in float32


def cross_entropy(
    logits: Tensor,
    targets: NDArray[np.integer[Any]],
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    **unknown: Never,
) -> Tensor:
    """Return the mean negative log-probability of the targets, in nats.

    With ``p = softmax(logits)``, N targets that are not ignored, V classes and smoothing e, the gradient of a row is
    ``(p - (1 - e) one_hot(target) - e / V) / N``.

    Parameters
    ----------
    logits : Tensor, shape (..., V)
        Unnormalized log-probabilities.
    targets : ndarray of int, shape (...)
        The class of each row, in ``[0, V)``.
    ignore_index : int, default -100
        The target of rows that are left out.
    label_smoothing : float, default 0.0
        The part of the target probability that is spread evenly over all classes, in [0, 1].

    Returns
    -------
    Tensor, shape ()
        Zero if all targets are ignored.

    Raises
    ------
    ValueError
        If the shapes do not match, or the smoothing is not in [0, 1].
    TypeError
        If the targets are not integers.
    IndexError
        If a target is neither a class nor `ignore_index`.
    """
    if unknown:
        raise unknown_argument("cross_entropy", unknown)
    shape, V = logits.shape, logits.shape[-1] if logits.ndim else 0
    chosen, counts = _checked(np.asarray(targets), shape, ignore_index)  # (N,), (N,) or None
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing ({label_smoothing}) must be in [0, 1]")
    flat = logits.data.reshape(-1, V)  # (N, V)
    each = np.arange(len(chosen))
    p, total, shift = exp_rows(flat)
    losses = np.log(total, dtype=np.float64)  # in float64, to keep the digits of a loss near zero
    losses += shift
    losses -= (1 - label_smoothing) * flat[each, chosen].astype(np.float64)
    if label_smoothing:
        losses -= label_smoothing * flat.mean(axis=1, dtype=np.float64)
    if counts is not None:
        losses = losses[counts]
    count = max(len(losses), 1)

    def vjp(g: Array) -> tuple[Array]:
        share = g / count
        np.multiply(p, (share / total)[:, None], out=p)
        p[each, chosen] -= (1 - label_smoothing) * share
        if label_smoothing:
            np.subtract(p, label_smoothing / V * share, out=p)
        if counts is not None:
            p[~counts] = 0
        return (p.reshape(shape),)

    return record("cross_entropy", np.asarray(losses.sum() / count, dtype=p.dtype), (logits,), vjp)


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: NDArray[np.integer[Any]], *, rows: int | None = None
) -> Tensor:
    """Return ``cross_entropy(linear(x, weight), targets)``, with the logits computed in chunks of rows.

    With N targets, the gradient of a row of logits is ``(softmax(x weight^T) - one_hot(target)) / N``. The forward
    computes it chunk by chunk, and adds its products to the gradients of x and of the weight.

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (V, C)
    targets : ndarray of int, shape (...)
        In ``[0, V)``.
    rows : int, optional
        Rows of a chunk of logits, by default as many as fit into 64 MB in float32.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        If the shapes do not match.
    IndexError
        If a target is out of range.
    """
    check_dtypes("linear_cross_entropy", x, weight)
    V, C = weight.shape
    if x.shape != (*targets.shape, C):
        raise ValueError(
            f"x of shape {x.shape} and targets of shape {targets.shape} must have shapes (..., {C}) and (...)"
        )
    flat, w, chosen = x.data.reshape(-1, C), weight.data, targets.reshape(-1)  # (N, C), (V, C), (N,)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= V):
        raise IndexError(f"targets ({chosen.min()} to {chosen.max()}) must be from 0 to {V - 1}")
    step = max(_MAX_CHUNK // V, 1) if rows is None else rows
    recorded = is_grad_enabled() and (needs_grad(x) or needs_grad(weight))
    dx = empty_like(flat) if recorded else flat
    dw = empty_like(w) if recorded and needs_grad(weight) else None
    if dw is not None:
        dw.fill(0)
    total = 0.0
    for part in (slice(start, start + step) for start in range(0, len(flat), step)):
        x_part = flat[part]  # (R, C)
        logits = matmul(x_part, w.T, out=empty((len(x_part), V), w.dtype))  # (R, V)
        picked = logits[np.arange(len(logits)), chosen[part]].astype(np.float64)  # (R,)
        p, sums, shift = exp_rows(logits)
        total += float((np.log(sums, dtype=np.float64) + shift - picked).sum())
        if recorded:
            p *= (1 / (sums * len(flat)))[:, None]
            p[np.arange(len(p)), chosen[part]] -= 1 / len(flat)
            matmul(p, w, out=dx[part])
            if dw is not None:
                dw += matmul(p.T, x_part, out=empty_like(w))

    def vjp(g: Array) -> tuple[Array, Array | None]:
        if g != 1:
            np.multiply(dx, g, out=dx)
            if dw is not None:
                np.multiply(dw, g, out=dw)
        return dx.reshape(x_shape), dw

    x_shape = x.shape
    return record("linear_cross_entropy", np.asarray(total / max(len(flat), 1), dtype=w.dtype), (x, weight), vjp)


def mse_loss(predictions: Tensor, targets: Tensor | NDArray[np.floating[Any]], **unknown: Never) -> Tensor:
    """Return the mean squared error: the mean of ``(predictions - targets)**2`` over all N elements.

    The gradient of the predictions is ``2 (predictions - targets) / N``, that of the targets its negative.

    Parameters
    ----------
    predictions : Tensor, shape (...)
    targets : Tensor or ndarray, shape (...)
        An array takes the dtype of the predictions.

    Returns
    -------
    Tensor, shape ()
        Zero if there is no element.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if unknown:
        raise unknown_argument("mse_loss", unknown)
    if not isinstance(targets, Tensor):
        targets = Tensor(np.asarray(targets, dtype=predictions.dtype))
    check_dtypes("mse_loss", predictions, targets)
    if predictions.shape != targets.shape:
        raise ValueError(
            f"mse_loss needs predictions and targets of one shape, got {predictions.shape} and {targets.shape}"
        )
    error = np.asarray(predictions.data - targets.data)
    flat, count = error.reshape(-1), max(error.size, 1)

    def vjp(g: Array) -> tuple[Array, Array]:
        slope = np.asarray(error * error.dtype.type(2 * g / count))
        return slope, -slope

    return record("mse_loss", np.asarray(np.dot(flat, flat) / count, error.dtype), (predictions, targets), vjp)


def _checked(
    targets: NDArray[np.integer[Any]], shape: tuple[int, ...], ignore_index: int
) -> tuple[NDArray[np.integer[Any]], NDArray[np.bool_] | None]:
    """Return the targets as one row, zero where ignored, and the mask of those not ignored, or None if all count."""
    if not shape or shape[:-1] != targets.shape:
        raise ValueError(
            f"logits of shape (..., V) need targets of shape (...), got logits of shape {shape} and targets of shape "
            f"{targets.shape}"
        )
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, got {targets.dtype}")
    chosen = targets.reshape(-1)
    counts = None
    if chosen.size and (ignored := chosen == ignore_index).any():
        counts = ~ignored
        chosen = np.where(counts, chosen, 0)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= shape[-1]):
        raise IndexError(
            f"targets must be from 0 to {shape[-1] - 1} or {ignore_index} (ignored), got {chosen.min()} to {chosen.max()}"
        )
    return chosen, counts
