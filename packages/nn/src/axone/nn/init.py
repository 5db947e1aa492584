"""Initial values of parameters, written in place and in their dtype.

A matrix has the shape (out_features, in_features) of a `Linear` weight; ``fan_in`` and ``fan_out`` are the two lengths.

References
----------
.. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
   https://proceedings.mlr.press/v9/glorot10a.html
.. [2] K. He et al., "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852
.. [3] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.3,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

import math

import numpy as np

from axone.autograd import Tensor


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """Return `rng`, or a fresh generator for None."""
    return np.random.default_rng() if rng is None else rng


def normal(parameter: Tensor, *, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw from the normal distribution of mean 0 and standard deviation `std`: unbounded.

    Parameters
    ----------
    parameter : Tensor
        What to fill.
    std : float, default 0.02
        As in GPT-2.
    rng : numpy.random.Generator
    """
    parameter.data[...] = std * rng.standard_normal(parameter.shape, dtype=np.float32)


def truncated_normal(parameter: Tensor, *, std: float = 0.02, cut: float = 2.0, rng: np.random.Generator) -> None:
    """Draw from the normal distribution of standard deviation `std`, again wherever the bound is passed.

    All values lie in ``[-cut std, cut std]``. At a cut of 2 their own standard deviation is ``0.88 std``.

    Parameters
    ----------
    parameter : Tensor
        What to fill.
    std : float, default 0.02
        Before the cut.
    cut : float, default 2.0
        The bound in units of `std`, positive.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If `cut` is not positive.
    """
    if not cut > 0:
        raise ValueError(f"truncated_normal needs a positive cut, and it is {cut}")
    values = rng.standard_normal(parameter.shape, dtype=np.float32)
    while (outside := np.abs(values) > cut).any():
        values[outside] = rng.standard_normal(int(outside.sum()), dtype=np.float32)
    parameter.data[...] = std * values


def uniform(parameter: Tensor, *, bound: float, rng: np.random.Generator) -> None:
    """Draw uniformly from ``[-bound, bound)``.

    Parameters
    ----------
    parameter : Tensor
        What to fill.
    bound : float
    rng : numpy.random.Generator
    """
    parameter.data[...] = bound * (2 * rng.random(parameter.shape, dtype=np.float32) - 1)


def xavier(parameter: Tensor, *, gain: float = 1.0, rng: np.random.Generator) -> None:
    """Draw uniformly within ``gain sqrt(6 / (fan_in + fan_out))``, which suits tanh and sigmoid.

    The variance is ``2 gain^2 / (fan_in + fan_out)``.

    Parameters
    ----------
    parameter : Tensor, shape (fan_out, fan_in)
        What to fill.
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
    """Draw uniformly within ``gain sqrt(3 / fan_in)``, which suits ReLU and its kin.

    The variance is ``gain^2 / fan_in``.

    Parameters
    ----------
    parameter : Tensor, shape (fan_out, fan_in)
        What to fill.
    gain : float, default sqrt(2)
        For ReLU, which lets half of the variance through.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If `parameter` is not a matrix.
    """
    _, fan_in = _fans("kaiming", parameter)
    uniform(parameter, bound=gain * math.sqrt(3 / max(fan_in, 1)), rng=rng)


def scaled_residual(parameter: Tensor, *, num_layers: int, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw as GPT-2 does for the last product of each residual branch: `normal` with ``std / sqrt(2 num_layers)``.

    The ``2 num_layers`` branches that add up in the residual stream then keep its variance.

    Parameters
    ----------
    parameter : Tensor
        What to fill.
    num_layers : int
        Blocks of the Transformer, each with two branches.
    std : float, default 0.02
    rng : numpy.random.Generator
    """
    normal(parameter, std=std / math.sqrt(2 * num_layers), rng=rng)


def _fans(name: str, parameter: Tensor) -> tuple[int, int]:
    if parameter.ndim != 2:
        raise ValueError(f"{name} needs a parameter of shape (fan_out, fan_in), and this one has {parameter.shape}")
    fan_out, fan_in = parameter.shape
    return fan_out, fan_in
