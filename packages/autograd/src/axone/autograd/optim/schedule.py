"""Learning-rate schedules: pure functions of the step, so that resuming needs no saved state.

Steps are counted from zero. The first of `warmup_steps` has ``max_lr / warmup_steps``; the last of `total_steps` has
`min_lr`.

References
----------
.. [1] I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
   https://arxiv.org/abs/1608.03983
.. [2] S. Hu et al., "MiniCPM" (warmup-stable-decay), https://arxiv.org/abs/2404.06395
"""

from __future__ import annotations

import math


def cosine(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay.

    Parameters
    ----------
    step : int
        Counted from 0.
    max_lr : float
        The highest learning rate, at the end of the warm-up.
    min_lr : float
        The learning rate of the last step, and of all later ones.
    warmup_steps : int
        The number of steps of the warm-up; 0 for none.
    total_steps : int
        The number of all steps.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `step` or `warmup_steps` is negative, or `total_steps` is not positive.

    Examples
    --------
    >>> from axone.autograd.optim import cosine
    >>> [
    ...     round(cosine(s, max_lr=1.0, min_lr=0.0, warmup_steps=2, total_steps=5), 2)
    ...     for s in range(5)
    ... ]
    [0.5, 1.0, 0.75, 0.25, 0.0]
    """
    progress = _progress(step, warmup_steps, total_steps)
    if progress < 0:
        return max_lr * (step + 1) / warmup_steps
    return min_lr + (max_lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def linear_decay(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then linear decay.

    Parameters
    ----------
    step : int
        Counted from 0.
    max_lr : float
        The highest learning rate, at the end of the warm-up.
    min_lr : float
        The learning rate of the last step, and of all later ones.
    warmup_steps : int
        The number of steps of the warm-up; 0 for none.
    total_steps : int
        The number of all steps.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `step` or `warmup_steps` is negative, or `total_steps` is not positive.

    Examples
    --------
    >>> from axone.autograd.optim import linear_decay
    >>> [
    ...     round(linear_decay(s, max_lr=1.0, min_lr=0.0, warmup_steps=2, total_steps=5), 2)
    ...     for s in range(5)
    ... ]
    [0.5, 1.0, 0.67, 0.33, 0.0]
    """
    progress = _progress(step, warmup_steps, total_steps)
    if progress < 0:
        return max_lr * (step + 1) / warmup_steps
    return max_lr + (min_lr - max_lr) * progress


def trapezoid(
    step: int, *, max_lr: float, min_lr: float, warmup_steps: int, cooldown_steps: int, total_steps: int
) -> float:
    """Return the learning rate of a step: linear warm-up, then a constant rate, then linear cooldown.

    Up to the cooldown a longer training has the same rates: it can be prolonged without a trace.

    Parameters
    ----------
    step : int
        Counted from 0.
    max_lr : float
        The learning rate between warm-up and cooldown.
    min_lr : float
        The learning rate of the last step, and of all later ones.
    warmup_steps : int
        The number of steps of the warm-up; 0 for none.
    cooldown_steps : int
        The number of steps of the cooldown; 0 for none. It begins after the warm-up at the earliest.
    total_steps : int
        The number of all steps.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `step`, `warmup_steps` or `cooldown_steps` is negative, or `total_steps` is not positive.

    Examples
    --------
    >>> from axone.autograd.optim import trapezoid
    >>> options = dict(
    ...     max_lr=1.0, min_lr=0.0, warmup_steps=2, cooldown_steps=2, total_steps=6
    ... )
    >>> [trapezoid(s, **options) for s in range(6)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if cooldown_steps < 0:
        raise ValueError(f"cooldown_steps ({cooldown_steps}) must not be negative")
    if _progress(step, warmup_steps, total_steps) < 0:
        return max_lr * (step + 1) / warmup_steps
    first = max(total_steps - cooldown_steps, warmup_steps)
    if step < first:
        return max_lr
    return max_lr + (min_lr - max_lr) * min((step + 1 - first) / max(total_steps - first, 1), 1.0)


def _progress(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the progress of the decay, from 0 to 1; negative during the warm-up.

    The last step of the warm-up has the highest rate, so the decay starts from it.
    """
    if step < 0 or warmup_steps < 0 or total_steps <= 0:
        raise ValueError(
            f"step ({step}) and warmup_steps ({warmup_steps}) must not be negative, and total_steps ({total_steps}) must "
            "be positive"
        )
    if step < warmup_steps:
        return -1.0
    first = max(warmup_steps - 1, 0)
    return min((step - first) / max(total_steps - 1 - first, 1), 1.0)
