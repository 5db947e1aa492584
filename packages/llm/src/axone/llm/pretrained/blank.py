"""A generator for weights that are about to be read from a file: drawing them first would take longer than reading."""

from __future__ import annotations

from typing import Any

import numpy as np


class Blank(np.random.Generator):
    """Draws nothing but zeros. The generators that it spawns, such as those of dropout, are usual ones."""

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:  # noqa: ARG002
        """Return zeros."""
        return np.zeros(size, dtype)

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:  # noqa: ARG002
        """Return zeros."""
        return np.zeros(size, dtype)

    def spawn(self, n_children: int) -> list[np.random.Generator]:
        """Return usual generators."""
        return np.random.Generator(self.bit_generator).spawn(n_children)
