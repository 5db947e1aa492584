"""Activation functions, forward and backward in place.

Each is x times a gate. The slope is computed from the gate and the output y, or from y alone; the next operation saves y
anyway.

References
----------
.. [1] D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units (GELUs)", https://arxiv.org/abs/1606.08415
.. [2] N. Shazeer, "GLU Variants Improve Transformer", https://arxiv.org/abs/2002.05202
.. [3] D. R. So et al., "Primer: Searching for Efficient Transformers for Language Modeling",
   https://arxiv.org/abs/2109.08668
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty_like, mask_gradient, needs_grad, record
from axone.nn.functional.erf import normal_tail
from axone.nn.functional.intra_op import chunks, parallel_for
from axone.nn.functional.linear import Forward
from axone.nn.functional.validation import check_dtypes

_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
GELU_FACTORS = {"cubic": _SCALE * _CUBIC, "linear": _SCALE, "half": 0.5}
"""The factors with which `gelu_gate` is GELU in its tanh approximation."""
_PART = 1 << 16  # elements: four arrays of this length fit a cache


def _parts(chunk: slice) -> Iterator[slice]:
    """Yield the parts of a thread's chunk of a flat array in order."""
    return (slice(first, min(first + _PART, chunk.stop)) for first in range(chunk.start, chunk.stop, _PART))


def gelu(x: Tensor, approximate: Literal["tanh", "none"] = "tanh") -> Tensor:
    """Return the Gaussian error linear unit: x times the probability that a normal variable is below x.

    The usual approximation of that probability is ``s = (1 + tanh(u)) / 2`` with ``u = sqrt(2 / pi) (x + 0.044715
    x^3)``. Because ``1 - tanh(u)^2 = 4 s (1 - s)``::

        y = x s        dy/dx = s + x s (1 - s) 2 du/dx = s (1 + x 2 du/dx (1 - s))

    Parameters
    ----------
    x : Tensor, shape (...)
    approximate : {"tanh", "none"}, default "tanh"
        Use the approximation, or the exact probability, which takes several times as long.

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If `approximate` is neither.
    """
    check_dtypes("gelu", x)
    if approximate == "none":
        return _exact_gelu(x)
    if approximate != "tanh":
        raise ValueError(f'approximate ({approximate!r}) must be "tanh" or "none"')
    shape, data = x.shape, x.data.reshape(-1)
    s, y = empty_like(data), empty_like(data)

    def forward(chunk: slice) -> None:
        for part in _parts(chunk):
            source, gate = data[part], s[part]
            np.square(source, out=gate)
            gate *= _SCALE * _CUBIC
            gate += _SCALE
            gate *= source
            np.tanh(gate, out=gate)
            gate *= 0.5
            gate += 0.5
            np.multiply(source, gate, out=y[part])

    parallel_for(forward, chunks(data.size, multiple_of=_PART))

    def vjp(g: Array) -> tuple[Array]:
        g = g.reshape(-1)

        def backward(chunk: slice) -> None:
            scratch = np.empty((2, min(chunk.stop - chunk.start, _PART)), g.dtype)
            for part in _parts(chunk):
                gate, result = s[part], y[part]
                data, slope = scratch[:, : gate.size]
                np.add(gate, np.finfo(g.dtype).tiny, out=data)
                np.divide(result, data, out=data)  # x recomputed as y / s, so that x need not be saved; 0 where s is 0
                np.square(data, out=slope)
                slope *= 6 * _SCALE * _CUBIC
                slope += 2 * _SCALE  # 2 du/dx
                data -= result
                slope *= data
                slope += 1.0
                gate *= slope
                gate *= g[part]

        parallel_for(backward, chunks(g.size, multiple_of=_PART))
        return (s.reshape(shape),)

    return record("gelu", y.reshape(shape), (x,), vjp)


def _exact_gelu(x: Tensor) -> Tensor:
    """Return x times the normal distribution function P, whose derivative is the density p: ``dy/dx = P + x p``."""
    shape, data = x.shape, np.atleast_1d(x.data)
    tail, density = normal_tail(np.abs(data))
    tail -= 0.5
    p = np.copysign(tail, data)  # P(x) = 1 - tail for positive x
    p += 0.5

    def vjp(g: Array) -> tuple[Array]:
        slope = data * density
        slope += p
        slope *= g
        return (slope.reshape(shape),)

    return record("gelu", (data * p).reshape(shape), (x,), vjp)


def silu(x: Tensor) -> Tensor:
    """Return x times its logistic function s, with ``dy/dx = s + x s (1 - s) = s (1 + x - y)``.

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    check_dtypes("silu", x)
    shape, data = x.shape, np.atleast_1d(x.data)
    inverse = _inverse_logistic(data)
    y = np.divide(data, inverse, out=empty_like(data))

    def vjp(g: Array) -> tuple[Array]:
        slope = np.subtract(data, y, out=empty_like(data))
        slope += 1.0
        slope /= inverse
        slope *= g
        return (slope.reshape(shape),)

    return record("silu", y.reshape(shape), (x,), vjp)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``.

    Parameters
    ----------
    gate, up : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_dtypes("swiglu", gate, up)
    if gate.shape != up.shape:
        raise ValueError(f"gate and up must have one shape, got {gate.shape} and {up.shape}")
    shape, a, b = gate.shape, gate.data.reshape(-1), up.data.reshape(-1)
    y = empty_like(a)
    needs_gate, needs_up = needs_grad(gate), needs_grad(up)

    def forward(chunk: slice) -> None:
        scratch = np.empty(min(chunk.stop - chunk.start, _PART), a.dtype)
        for part in _parts(chunk):
            s = _logistic(a[part], scratch)
            s *= a[part]
            np.multiply(s, b[part], out=y[part])

    parallel_for(forward, chunks(a.size, multiple_of=_PART))

    def vjp(g: Array) -> tuple[Array | None, Array | None]:
        g = g.reshape(-1)
        da, db = empty_like(a) if needs_gate else None, empty_like(a) if needs_up else None

        def backward(chunk: slice) -> None:
            scratch = np.empty((2, min(chunk.stop - chunk.start, _PART)), a.dtype)
            for part in _parts(chunk):
                s = _logistic(a[part], scratch[0])  # computed again: to read it from memory would take as long
                activated = np.multiply(a[part], s, out=scratch[1, : s.size])
                if db is not None:
                    np.multiply(g[part], activated, out=db[part])
                if da is not None:
                    slope = np.subtract(1, s, out=da[part])
                    slope *= activated
                    slope += s
                    slope *= b[part]
                    slope *= g[part]

        parallel_for(backward, chunks(a.size, multiple_of=_PART))
        return None if da is None else da.reshape(shape), None if db is None else db.reshape(shape)

    return record("swiglu", y.reshape(shape), (gate, up), vjp)


def _logistic(x: Array, scratch: Array) -> Array:
    """Write ``1 / (1 + exp(-x))`` into the beginning of a scratch array, as ``(1 + tanh(x / 2)) / 2``, and return it."""
    s = np.multiply(x, 0.5, out=scratch[: x.size])
    np.tanh(s, out=s)
    s *= 0.5
    s += 0.5
    return s


def _inverse_logistic(x: Array) -> Array:
    """Return ``1 + exp(-x)``; it overflows to infinity for very negative x, where dividing by it correctly gives 0."""
    inverse = np.negative(x, out=empty_like(x))
    with np.errstate(over="ignore"):
        np.exp(inverse, out=inverse)
    inverse += 1.0
    return inverse


def relu2(x: Tensor) -> Tensor:
    """Return the square of x where it is positive, otherwise zero.

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    check_dtypes("relu2", x)
    shape, data = x.shape, x.data.reshape(-1)
    y = empty_like(data)

    def forward(chunk: slice) -> None:
        zeros = np.zeros(min(chunk.stop - chunk.start, _PART), data.dtype)
        for part in _parts(chunk):
            square = y[part]
            np.maximum(data[part], zeros[: square.size], out=square)  # three times as fast as with the number 0
            np.square(square, out=square)

    parallel_for(forward, chunks(data.size, multiple_of=_PART))

    def vjp(g: Array) -> tuple[Array]:
        g = g.reshape(-1)
        slope = empty_like(g)

        def backward(chunk: slice) -> None:
            zeros = np.zeros(min(chunk.stop - chunk.start, _PART), g.dtype)
            for part in _parts(chunk):
                product = slope[part]
                np.sqrt(y[part], out=product)  # the root of a rounded square is exact, so that x need not be saved
                with np.errstate(invalid="ignore"):
                    product *= g[part]
                    if np.isnan(product.dot(zeros[: product.size])):  # an infinite gradient times 0 is NaN
                        np.multiply(np.sqrt(y[part]), mask_gradient(g[part], y[part] != 0), out=product)
                product += product

        parallel_for(backward, chunks(g.size, multiple_of=_PART))
        return (slope.reshape(shape),)

    return record("relu2", y.reshape(shape), (x,), vjp)


def gelu_gate(dtype: np.dtype[Any], *, cubic: float | None, linear: float, half: float | None) -> Forward:
    """Return the function ``half x (1 + tanh(x (cubic x^2 + linear)))`` of arrays, for rows too short for a Tensor.

    Parameters
    ----------
    dtype : dtype
        Of x.
    cubic, linear, half : float or None
        `GELU_FACTORS` are those of the tanh approximation. None leaves a factor of 1 out.
    """
    c, b, one, h = (None if number is None else np.asarray(number, dtype) for number in (cubic, linear, 1, half))

    def forward(x: Array) -> Array:
        gate = np.square(x)
        if c is not None:
            gate *= c
        gate += b
        gate *= x
        np.tanh(gate, gate)
        gate += one
        gate *= x
        if h is not None:
            gate *= h
        return gate

    return forward


def swiglu_gate(dtype: np.dtype[Any], *, half: float | None) -> Callable[[Array, Array], Array]:
    """Return the function ``z (1 + tanh z) y`` of arrays, with ``z = half x``: SwiGLU if half is 0.5.

    Parameters
    ----------
    dtype : dtype
        Of x and y.
    half : float or None
        None leaves a factor of 1 out. Otherwise the function overwrites x.
    """
    one, h = (None if number is None else np.asarray(number, dtype) for number in (1, half))

    def forward(z: Array, y: Array) -> Array:
        if h is not None:
            z *= h
        gate = np.tanh(z)
        gate += one
        gate *= z
        gate *= y
        return gate

    return forward
