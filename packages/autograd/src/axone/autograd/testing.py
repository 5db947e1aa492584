"""Checks for operations, ours and a third party's: does the gradient fit the function?

Not imported by the package itself.

References
----------
.. [1] W. Squire, G. Trapp, "Using Complex Variables to Estimate Derivatives of Real Functions",
   https://doi.org/10.1137/S003614459631241X
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from axone.autograd.mode import no_grad
from axone.autograd.ops import add, multiply, sum
from axone.autograd.tensor import Tensor, raw

__all__ = ["check_grads"]

Function = Callable[..., Tensor | Sequence[Tensor]]

_DIRECTIONS = 3
_COMPLEX_STEP = 1e-30


def check_grads(
    function: Function,
    inputs: Sequence[ArrayLike | Tensor],
    *,
    complex_step: bool = False,
    eps: float = 1e-6,
    rtol: float = 1e-3,
    atol: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> None:
    """Compare the gradients of a function with finite differences, in float64.

    The output is projected on random numbers and the inputs are moved in random directions, one input at a time: a few
    calls for any size, and an error in any element shows.

    Parameters
    ----------
    function : callable
        From Tensors to a Tensor or a sequence of Tensors.
    inputs : sequence of array_like
        Where to check, converted to float64. Not at a kink, where there is no derivative.
    complex_step : bool, default False
        Differentiate with an imaginary step in place of differences: exact to the last digits. The function must be
        analytic and must pass complex numbers on, as ``exp`` does and ``abs`` does not.
    eps : float, default 1e-6
        The step of the differences.
    rtol, atol : float, default 1e-3 and 1e-5
        How far apart the two may be; 1e-12 of both with `complex_step`.
    rng : numpy.random.Generator, optional
        For the random numbers; the same ones every time by default.

    Raises
    ------
    AssertionError
        If a gradient is wrong, naming the input.
    ValueError
        If the output does not depend on the inputs in a recorded way.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd.extend import record
    >>> from axone.autograd.testing import check_grads
    >>> def cube(x):
    ...     data = x.data
    ...     return record("cube", data**3, (x,), lambda g: (3 * data**2 * g,))
    >>> check_grads(cube, [[0.5, -1.0, 2.0]])
    """
    rng = np.random.default_rng(0) if rng is None else rng
    points = [np.array(raw(x), dtype=np.float64) for x in inputs]
    leaves = [Tensor(point.copy(), requires_grad=True) for point in points]
    outputs = _sequence(function(*leaves))
    weights = [rng.normal(size=output.shape) for output in outputs]
    _backward(outputs, weights)
    if complex_step:
        rtol = atol = 1e-12

    def projected(arrays: Sequence[NDArray[Any]]) -> Any:
        with no_grad():
            results = _sequence(function(*(Tensor(array) for array in arrays)))
        return np.sum([np.sum(result.data * weight) for result, weight in zip(results, weights)])

    for i, (point, leaf) in enumerate(zip(points, leaves)):
        for _ in range(_DIRECTIONS):
            direction = rng.normal(size=point.shape)

            def moved(step: complex, i: int = i, direction: NDArray[Any] = direction) -> Any:
                return projected([p + step * direction if j == i else p for j, p in enumerate(points)])

            if complex_step:
                expected = float(np.imag(moved(_COMPLEX_STEP * 1j))) / _COMPLEX_STEP
            else:
                expected = float(moved(eps) - moved(-eps)) / (2 * eps)
            found = 0.0 if leaf.grad is None else float(np.sum(leaf.grad * direction))
            if not abs(found - expected) <= atol + rtol * abs(expected):
                raise AssertionError(
                    f"the gradient of input {i}, of shape {point.shape}, gives a slope of {found:.9g} along a random "
                    f"direction, and the function has {expected:.9g}"
                )


def _sequence(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output


def _backward(outputs: Sequence[Tensor], weights: Sequence[NDArray[Any]]) -> None:
    """Walk back from all outputs at once, for they may share parts of one graph."""
    reached = [(output, weight) for output, weight in zip(outputs, weights) if output.requires_grad]
    if not reached:
        raise ValueError("check_grads needs a function that records what it computes, and no output requires gradients")
    if len(reached) == 1:
        reached[0][0].backward(reached[0][1])
        return
    total: Tensor = sum(multiply(*reached[0]))
    for output, weight in reached[1:]:
        total = add(total, sum(multiply(output, weight)))
    total.backward()
