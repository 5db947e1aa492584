"""Streams of the optimizer's state from all ranks to the file that rank 0 writes, a chunk at a time.

The file is the one that a single rank would write. No rank ever has the whole state in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray

from axone.llm.runtime.communicator import Communicator
from axone.llm.runtime.threads import Result, run_one
from axone.llm.storage.safetensors import StreamedArray, WritableState
from axone.llm.training.optimizers import StateArray

T = TypeVar("T")


def stream_state(
    communicator: Communicator, arrays: Sequence[StateArray], write: Callable[[WritableState], object] | None
) -> Result:
    """Let rank 0 write arrays of which all ranks have parts.

    Parameters
    ----------
    communicator : Communicator
    arrays : sequence of StateArray
        The same ones in all ranks.
    write : callable
        Called in rank 0 with the arrays, which it may iterate in any order, and not to the end if it raises.

    Returns
    -------
    (value, None) or (None, error)
        Of `write` in rank 0.
    """
    sizes = communicator.all_gather([array.part.size for array in arrays])  # of each rank, for each array
    by_array = [list(each) for each in zip(*sizes)]
    if communicator.rank or write is None:
        while (number := communicator.broadcast(None)) is not None:
            parts = communicator.gather_chunks(arrays[number].part.reshape(-1), by_array[number])
            deque(parts, maxlen=0)  # sends them
        return None, None

    def chunks(number: int) -> Generator[NDArray[Any]]:
        communicator.broadcast(number)
        yield from communicator.gather_chunks(arrays[number].part.reshape(-1), by_array[number])

    streamed: dict[str, NDArray[Any] | StreamedArray] = {}
    for number, array in enumerate(arrays):
        streamed[array.name] = (
            StreamedArray(array.part.dtype, array.shape, partial(chunks, number)) if array.is_sharded else array.part
        )
    result = run_one(partial(write, streamed))
    communicator.broadcast(None)
    return result
