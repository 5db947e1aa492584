"""Initial values of parameters, written in place and in their dtype.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.3,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

import math

import numpy as np

from axone.autograd import Tensor


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """Return `rng`, or a fresh generator for None."""
    return np.random.default_rng() if rng is None else rng


def normal(parameter: Tensor, *, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw from the normal distribution of mean 0 and standard deviation `std`."""
    parameter.data[...] = std * rng.standard_normal(parameter.shape, dtype=np.float32)


def uniform(parameter: Tensor, *, bound: float, rng: np.random.Generator) -> None:
    """Draw uniformly from ``[-bound, bound)``."""
    parameter.data[...] = bound * (2 * rng.random(parameter.shape, dtype=np.float32) - 1)


def scaled_residual(parameter: Tensor, *, num_layers: int, std: float = 0.02, rng: np.random.Generator) -> None:
    """Draw as GPT-2 does for the last product of each residual branch: ``normal`` with ``std / sqrt(2 num_layers)``.

    The 2 `num_layers` branches that add up in the residual stream then keep its variance.
    """
    normal(parameter, std=std / math.sqrt(2 * num_layers), rng=rng)
