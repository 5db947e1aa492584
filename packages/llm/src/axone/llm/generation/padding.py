"""Left padding: the positions and the mask of sequences of different lengths in one batch."""

from __future__ import annotations

import numpy as np

from axone.llm.types import Ids
from axone.nn.extend import DecodeContext


def padded_context(
    batch: int, count: int, first: int, starts: Ids | None = None, *, last_only: bool = False
) -> DecodeContext:
    """Return the context of some columns of left-padded sequences.

    Parameters
    ----------
    batch : int
        B.
    count : int
        T, the number of columns.
    first : int
        The first of them.
    starts : ndarray of int, shape (B,), optional
        The column where each sequence begins, by default 0.
    last_only : bool, default False
        As in `DecodeContext`.
    """
    positions, mask = np.arange(first, first + count), None
    if starts is not None:
        positions = np.maximum(positions - starts[:, None], 0)  # (B, T)
        mask = np.arange(first + count) >= starts[:, None]  # (B, S)
        mask[:, -1] = True  # a run of prefill may end inside padding, and attention needs one position
    return DecodeContext(batch, positions, mask, last_only=last_only)
