"""Rows of a batch of sequences of different lengths: which sequences share a row, and how they begin."""

import numpy as np
from numpy.typing import NDArray

_LEAST_SHARED = 8  # ids; sharing fewer does not pay


def shared_length(
    ids: NDArray[np.int32], trained: NDArray[np.bool_], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> int:
    """Return the number of ids with which several sequences begin, up to the first that predicts a learned one.

    Parameters
    ----------
    ids : ndarray of int32, shape (N,)
    trained : ndarray of bool, shape (N,)
        Whether a token is learned.
    starts, lengths : ndarray of int64, shape (B,)
        The first id of each sequence, and the number of its inputs.

    Returns
    -------
    int
        0 for a single sequence, and for a beginning that is too short to pay.
    """
    if len(starts) < 2:
        return 0
    first, *others = starts.tolist()
    shared = int(lengths.min()) - 1
    for start in (first, *others):
        ends = ids[start : start + shared] != ids[first : first + shared]
        ends |= trained[start + 1 : start + shared + 1]
        shared = int(ends.argmax()) if ends.any() else shared
    return shared if shared >= _LEAST_SHARED else 0


def first_fit(lengths: NDArray[np.int64]) -> list[list[int]]:
    """Return which sequences share a row as long as the longest: first fit, in order of falling length."""
    room: list[int] = []
    rows: list[list[int]] = []
    for member in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[member])
        row = next((row for row, left in enumerate(room) if length <= left), None)
        if row is None:
            rows.append([])
            room.append(int(lengths.max()))
            row = len(rows) - 1
        rows[row].append(member)
        room[row] -= length
    return rows
