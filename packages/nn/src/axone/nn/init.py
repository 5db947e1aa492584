"""Initial values of parameters, written in place.

A matrix has the shape (out_features, in_features) of a `Linear` weight; ``fan_in`` and ``fan_out`` are the two lengths.

References
----------
.. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
   https://proceedings.mlr.press/v9/glorot10a.html
.. [2] K. He et al., "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852
.. [3] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.3,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array

if not TYPE_CHECKING:  # for type checkers a misspelt name stays an error
    from axone.nn.pytorch import missing_initializer as __getattr__  # noqa: F401 - called by the interpreter

__all__ = [
    "constant",
    "empty",
    "kaiming",
    "normal",
    "scaled_residual",
    "skip",
    "truncated_normal",
    "uniform",
    "xavier",
]

_skipping: ContextVar[bool] = ContextVar("axone.nn.init.skip", default=False)


@contextlib.contextmanager
def skip() -> Iterator[None]:
    """Build modules without drawing or allocating their weights, as PyTorch's meta device does.

    Inside the context, and in the calling thread only, every new `Parameter` has its shape and dtype but no memory: its
    array is a read-only broadcast of one zero. The functions of this module return at once. `Module.load_state_dict`
    gives such parameters memory, and `axone.nn.extend.flatten` gives it to all of them at once, uninitialized.

    Examples
    --------
    >>> from axone.nn import Linear, init
    >>> with init.skip():
    ...     layer = Linear(1_000_000, 1_000_000)
    >>> layer.weight.shape, layer.weight.data.strides
    ((1000000, 1000000), (0, 0))
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def empty(*shape: int, dtype: DTypeLike = np.float32) -> Array:
    """Return an uninitialized array for a `Parameter`: without memory inside `skip`.

    Parameters
    ----------
    *shape : int
    dtype : dtype, default float32

    Returns
    -------
    ndarray
    """
    return meta(shape, dtype) if _skipping.get() else np.empty(shape, dtype)


@functools.cache
def _zero(dtype: np.dtype[Any]) -> NDArray[Any]:
    zero = np.zeros((), dtype)
    zero.flags.writeable = False
    return zero


def meta(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array of zeros that has a shape and a dtype but no memory."""
    return np.broadcast_to(_zero(np.dtype(dtype)), shape)


def is_meta(array: NDArray[Any]) -> bool:
    """Return whether an array comes from `meta`: it then begins at the one zero of its dtype."""
    return array.ctypes.data == _zero(array.dtype).ctypes.data


def is_skipping() -> bool:
    """Return whether the calling thread is inside `skip`."""
    return _skipping.get()


def constant(parameter: Tensor, value: float) -> None:
    """Set all elements to `value`.

    Parameters
    ----------
    parameter : Tensor
        The Tensor to fill.
    value : float
    """
    _write(parameter, value)


def normal(parameter: Tensor, *, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw from the normal distribution of mean 0 and standard deviation `std`.

    Parameters
    ----------
    parameter : Tensor
        The Tensor to fill.
    std : float, default 0.02
        As in GPT-2.
    rng : numpy.random.Generator
    """
    if not _skipping.get():
        _write(parameter, std * rng.standard_normal(parameter.shape, dtype=np.float32))


def truncated_normal(parameter: Tensor, *, std: float = 0.02, cut: float = 2.0, rng: np.random.Generator) -> None:
    """Draw from the normal distribution of standard deviation `std`, truncated at ``cut std`` on both sides.

    Values outside are drawn again. At a cut of 2 the standard deviation of the values is ``0.88 std``.

    Parameters
    ----------
    parameter : Tensor
        The Tensor to fill.
    std : float, default 0.02
        The standard deviation before truncation.
    cut : float, default 2.0
        The bound in units of `std`, positive.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If `cut` is not positive.
    """
    if not cut > 0:
        raise ValueError(f"cut ({cut}) must be positive")
    if _skipping.get():
        return
    values = rng.standard_normal(parameter.shape, dtype=np.float32)
    while (outside := np.abs(values) > cut).any():
        values[outside] = rng.standard_normal(int(outside.sum()), dtype=np.float32)
    _write(parameter, std * values)


def uniform(parameter: Tensor, *, bound: float, rng: np.random.Generator) -> None:
    """Draw uniformly from ``[-bound, bound)``.

    Parameters
    ----------
    parameter : Tensor
        The Tensor to fill.
    bound : float
    rng : numpy.random.Generator
    """
    if not _skipping.get():
        _write(parameter, bound * (2 * rng.random(parameter.shape, dtype=np.float32) - 1))


def xavier(parameter: Tensor, *, gain: float = 1.0, rng: np.random.Generator) -> None:
    """Draw uniformly up to ``gain sqrt(6 / (fan_in + fan_out))`` in magnitude, for tanh and sigmoid.

    The variance is ``2 gain^2 / (fan_in + fan_out)``.

    Parameters
    ----------
    parameter : Tensor, shape (fan_out, fan_in)
        The Tensor to fill.
    gain : float, default 1.0
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If `parameter` is not a matrix.
    """
    fan_out, fan_in = _fans("xavier", parameter)
    uniform(parameter, bound=gain * math.sqrt(6 / max(fan_in + fan_out, 1)), rng=rng)


def kaiming(parameter: Tensor, *, gain: float = math.sqrt(2), rng: np.random.Generator) -> None:
    """Draw uniformly up to ``gain sqrt(3 / fan_in)`` in magnitude, for ReLU and similar activations.

    The variance is ``gain^2 / fan_in``.

    Parameters
    ----------
    parameter : Tensor, shape (fan_out, fan_in)
        The Tensor to fill.
    gain : float, default sqrt(2)
        The default is for ReLU, which halves the variance.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If `parameter` is not a matrix.
    """
    _, fan_in = _fans("kaiming", parameter)
    uniform(parameter, bound=gain * math.sqrt(3 / max(fan_in, 1)), rng=rng)


def scaled_residual(parameter: Tensor, *, num_layers: int, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw the weight of a residual branch's last linear layer as GPT-2: `normal` with ``std / sqrt(2 num_layers)``.

    The variance of the residual stream, which sums ``2 num_layers`` branches, then does not grow with depth.

    Parameters
    ----------
    parameter : Tensor
        The Tensor to fill.
    num_layers : int
        The number of blocks of the Transformer, each with two branches.
    std : float, default 0.02
    rng : numpy.random.Generator
    """
    normal(parameter, std=std / math.sqrt(2 * num_layers), rng=rng)


def _write(parameter: Tensor, values: Array | float) -> None:
    if _skipping.get():
        return
    if is_meta(parameter.data):
        raise ValueError(
            f"a parameter of shape {parameter.shape} was built under init.skip() and has no memory: "
            "give it some with load_state_dict or axone.nn.extend.flatten"
        )
    parameter.data[...] = values


def _fans(name: str, parameter: Tensor) -> tuple[int, int]:
    if parameter.ndim != 2:
        raise ValueError(f"{name} needs a parameter of shape (fan_out, fan_in), got shape {parameter.shape}")
    fan_out, fan_in = parameter.shape
    return fan_out, fan_in
