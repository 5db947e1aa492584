"""Gradient check for operations: compares gradients with finite differences.

The package itself does not import this module.

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

    The output is projected on random weights, and one input at a time is moved in random directions. This takes a few
    calls for any size, and an error in any element shows.

    Parameters
    ----------
    function : callable
        Maps Tensors to a Tensor or a sequence of Tensors.
    inputs : sequence of array_like
        The point at which to check, converted to float64. The function must be differentiable there.
    complex_step : bool, default False
        Differentiate with an imaginary step instead of differences, which is exact to the last digits. The function must
        be analytic and accept complex numbers, as ``exp`` does and ``abs`` does not.
    eps : float, default 1e-6
        The step of the differences.
    rtol, atol : float, default 1e-3 and 1e-5
        The relative and absolute tolerance; 1e-12 each with `complex_step`.
    rng : numpy.random.Generator, optional
        For the weights and directions; by default the same in every call.

    Raises
    ------
    AssertionError
        If a gradient is wrong; names the input.
    ValueError
        If no output requires gradients.

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
                    f"the gradient of input {i} of shape {point.shape} gives the slope {found:.9g} in a random direction, "
                    f"{'the complex step' if complex_step else 'finite differences'} give{'s' * complex_step} {expected:.9g}"
                )


def _sequence(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output


def _backward(outputs: Sequence[Tensor], weights: Sequence[NDArray[Any]]) -> None:
    """Run one backward pass for all outputs, because they may share parts of one graph."""
    reached = [(output, weight) for output, weight in zip(outputs, weights) if output.requires_grad]
    if not reached:
        raise ValueError("no output of the function requires gradients: compute it with operations that are recorded")
    if len(reached) == 1:
        reached[0][0].backward(reached[0][1])
        return
    total: Tensor = sum(multiply(*reached[0]))
    for output, weight in reached[1:]:
        total = add(total, sum(multiply(output, weight)))
    total.backward()
