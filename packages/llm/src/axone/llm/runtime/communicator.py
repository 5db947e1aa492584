"""Communicator: collective operations between the ranks of a job, which may run on several machines.

Training needs no more than this protocol. `SingleProcess` is the job of one rank; `axone.llm.distributed` has the other
implementation, over MPI. Values are numbers, text, lists and objects that JSON can represent, and arrays: no pickle.

References
----------
.. [1] MPI Forum, "MPI: A Message-Passing Interface Standard", https://www.mpi-forum.org/docs/
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import RankError
from axone.llm.runtime.threads import Result, run_one

T = TypeVar("T")

Flat: TypeAlias = NDArray[np.floating[Any]]


class Communicator(Protocol):
    """Collective operations between the ranks of a job: every rank calls the same ones in the same order.

    Attributes
    ----------
    rank : int
        Rank of this process, from 0.
    world_size : int
        Number of ranks.
    default_workers : int or None
        Workers of each rank unless a number is given; None for all cores of the machine.
    waiting, communicating : float
        Seconds spent so far in waiting for other ranks, and in exchanging arrays.
    """

    rank: int
    world_size: int
    default_workers: int | None
    waiting: float
    communicating: float

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank."""

    def barrier(self) -> None:
        """Wait until all ranks have called this method."""

    def broadcast_array(self, array: Flat) -> None:
        """Overwrite a contiguous array with that of rank 0."""

    def all_reduce(self, array: Flat) -> None:
        """Overwrite a contiguous array with the sum over all ranks: the same bits in all of them."""

    def reduce_scatter(self, array: Flat, bounds: Sequence[int]) -> None:
        """Overwrite this rank's shard of an array with the sum of that shard over all ranks.

        Parameters
        ----------
        array : ndarray, shape (N,)
            Its other shards stay as they are.
        bounds : sequence of int
            Shard r is ``array[bounds[r] : bounds[r + 1]]``.
        """

    def all_gather_shards(self, array: Flat, bounds: Sequence[int]) -> None:
        """Overwrite all shards of an array with those of their ranks.

        Parameters
        ----------
        array : ndarray, shape (N,)
        bounds : sequence of int
            As for `reduce_scatter`.
        """

    def gather_chunks(self, part: Flat, sizes: Sequence[int]) -> Iterator[Flat]:
        """Yield the parts of all ranks in rank 0, by rank and chunk by chunk; yield nothing elsewhere.

        A consumer in rank 0 that ends early receives the rest without using it, so that no other rank waits.

        Parameters
        ----------
        part : ndarray, shape (N,)
        sizes : sequence of int
            Number of elements of each rank's part.
        """

    def abort(self, message: str) -> NoReturn:
        """Write a message to standard error, and end all processes of the job."""


class SingleProcess:
    """The communicator of a job of one rank."""

    def __init__(self) -> None:
        self.rank = 0
        self.world_size = 1
        self.default_workers: int | None = None
        self.waiting = self.communicating = 0.0

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]

    def barrier(self) -> None:
        """Do nothing."""

    def broadcast_array(self, array: Flat) -> None:
        """Do nothing."""

    def all_reduce(self, array: Flat) -> None:
        """Do nothing: the array is the sum."""

    def reduce_scatter(self, array: Flat, bounds: Sequence[int]) -> None:
        """Do nothing: the only shard is the array."""

    def all_gather_shards(self, array: Flat, bounds: Sequence[int]) -> None:
        """Do nothing: the only shard is the array."""

    def gather_chunks(self, part: Flat, sizes: Sequence[int]) -> Iterator[Flat]:  # noqa: ARG002 - as the protocol
        """Yield the part."""
        yield part

    def abort(self, message: str) -> NoReturn:
        """Exit with the message."""
        sys.exit(message)


def gather_results(communicator: Communicator, result: Result) -> list[Any]:
    """All-gather the values of all ranks; raise the first error among them in all ranks.

    Parameters
    ----------
    communicator : Communicator
    result : (value, None) or (None, error)
        From `run_one`.

    Returns
    -------
    list
        By rank.

    Raises
    ------
    BaseException
        The error of this rank, if it has one.
    RankError
        The error of another rank.
    """
    value, error = result
    if communicator.world_size == 1:
        if error is not None:
            raise error
        return [value]
    gathered = communicator.all_gather([value, None if error is None else origin(communicator.rank, error)])
    if error is not None:
        raise error
    for _, fault in gathered:
        if fault is not None:
            raise RankError(*fault)
    return [value for value, _ in gathered]


def run_together(communicator: Communicator, function: Callable[[], T]) -> list[T]:
    """Call a function in all ranks and return its values, by rank; raise an error of any rank in all ranks."""
    return gather_results(communicator, run_one(function))


@contextlib.contextmanager
def together(communicator: Communicator) -> Iterator[None]:
    """Raise an error of the block in any rank in all ranks: `RankError` in those whose block has ended without one."""
    try:
        yield
    except BaseException as error:
        gather_results(communicator, (None, error))
        raise
    gather_results(communicator, (None, None))


def origin(rank: int, error: BaseException) -> tuple[int, str]:
    """Return the rank that an error of a rank comes from, and the error's sentence."""
    return (error.rank if isinstance(error, RankError) else rank), describe(error)


def describe(error: BaseException) -> str:
    """Return the sentence of an error, after the name of its class unless it has none but a system's message."""
    if isinstance(error, RankError):
        return error.reason
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError | ValueError) or type(error).__module__.startswith("axone."):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
