"""Array types that the modules of axone.llm share."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.integer[Any]]
"""Token ids."""

Logits: TypeAlias = NDArray[np.floating[Any]]
"""Unnormalized log-probabilities, shape (..., V)."""
