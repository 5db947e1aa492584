"""Learning-rate schedules: pure functions of the step, so that nothing has to be saved to resume.

Steps are counted from zero. The first of `warmup_steps` has ``max_lr / warmup_steps``; the last of `total_steps` has
`min_lr`.

References
----------
.. [1] I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
   https://arxiv.org/abs/1608.03983
"""

import math


def cosine(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate at a step: a linear rise, then half a cosine down.

    Parameters
    ----------
    step : int
        From 0.
    max_lr : float
        The highest rate, at the end of the warm-up.
    min_lr : float
        The rate of the last step, and of all after it.
    warmup_steps : int
        How many steps the rise takes; 0 for none.
    total_steps : int
        How many there are.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a step or a number of steps is negative, or there are none.

    Examples
    --------
    >>> from axone.autograd.optim import cosine
    >>> [round(cosine(s, max_lr=1.0, min_lr=0.0, warmup_steps=2, total_steps=5), 2) for s in range(5)]
    [0.5, 1.0, 0.75, 0.25, 0.0]
    """
    progress = _progress(step, warmup_steps, total_steps)
    if progress < 0:
        return max_lr * (step + 1) / warmup_steps
    return min_lr + (max_lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def linear_decay(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate at a step: a linear rise, then a straight line down.

    Parameters
    ----------
    step : int
        From 0.
    max_lr : float
        The highest rate, at the end of the warm-up.
    min_lr : float
        The rate of the last step, and of all after it.
    warmup_steps : int
        How many steps the rise takes; 0 for none.
    total_steps : int
        How many there are.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a step or a number of steps is negative, or there are none.

    Examples
    --------
    >>> from axone.autograd.optim import linear_decay
    >>> [round(linear_decay(s, max_lr=1.0, min_lr=0.0, warmup_steps=2, total_steps=5), 2) for s in range(5)]
    [0.5, 1.0, 0.67, 0.33, 0.0]
    """
    progress = _progress(step, warmup_steps, total_steps)
    if progress < 0:
        return max_lr * (step + 1) / warmup_steps
    return max_lr + (min_lr - max_lr) * progress


def _progress(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return how far the decay has come, from 0 to 1; negative during the warm-up.

    The last step of the warm-up already has the full rate, so the decay starts from there.
    """
    if step < 0 or warmup_steps < 0 or total_steps <= 0:
        raise ValueError(
            f"a schedule needs step and warmup_steps of at least 0 and total_steps of at least 1, and got "
            f"{step}, {warmup_steps} and {total_steps}"
        )
    if step < warmup_steps:
        return -1.0
    first = max(warmup_steps - 1, 0)
    return min((step - first) / max(total_steps - 1 - first, 1), 1.0)
