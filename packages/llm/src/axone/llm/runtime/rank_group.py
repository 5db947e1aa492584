"""Rank group: rank 0 of a job leads a program, the other ranks call the collective methods that it calls.

Only rank 0 decides: when to evaluate, to save and to stop. An error that one rank raises in a task of all ranks is raised
in all of them. Any other error inside a collective method ends the job, because another rank may wait for this one.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from axone.llm.errors import RankError
from axone.llm.runtime.communicator import Communicator, describe, gather_results, origin
from axone.llm.runtime.threads import run_one, values

R = TypeVar("R")


class RankGroup:
    """The ranks of a job as those of one program.

    Parameters
    ----------
    communicator : Communicator

    Attributes
    ----------
    communicator : Communicator
    several : bool
        Whether there is more than one rank.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.several = communicator.world_size > 1
        self._common_error: BaseException | None = None  # one that all ranks raise

    def broadcast_call(self, method: str, *arguments: object) -> None:
        """Let the other ranks call a method that rank 0 calls now; in other ranks, do nothing."""
        if self.several and self.communicator.rank == 0:
            self.communicator.broadcast([method, *arguments])

    def call_failed(self, error: BaseException) -> None:
        """End the job unless all ranks raise this error."""
        if self.several and error is not self._common_error:
            trace = "".join(traceback.format_exception(error))
            self.communicator.abort(f"{trace}rank {self.communicator.rank}: {describe(error)}")

    def lead(self, program: object, body: Callable[[], R]) -> R:
        """Call a function in rank 0, while the other ranks call the collective methods that it calls.

        Parameters
        ----------
        program : object
            Its `collective` methods run in all ranks.
        body : callable
            Returns a value that JSON can represent.

        Returns
        -------
        object
            The value, in all ranks.

        Raises
        ------
        BaseException
            The error of the function in rank 0.
        RankError
            That error in the other ranks.
        """
        if not self.several:
            return body()
        if self.communicator.rank:
            found: R = self._follow(program)
            return found
        result = run_one(body)
        value, error = result
        self.communicator.broadcast([None, value, None if error is None else origin(0, error)])
        led: R = values([result])[0]
        return led

    def run(self, function: Callable[[], R]) -> list[R]:
        """Call a function in all ranks, and return its values by rank; raise an error of any rank in all ranks."""
        if not self.several:
            return [function()]
        try:
            return gather_results(self.communicator, run_one(function))
        except BaseException as error:
            self._common_error = error
            raise

    def compare(self, function: Callable[[], str], name: str) -> None:
        """Compare the values of a function in all ranks.

        Parameters
        ----------
        function : callable
        name : str
            Name of the value in the message.

        Raises
        ------
        RankError
            If one differs from that of rank 0.
        """
        found = self.run(function)
        for rank, value in enumerate(found):
            if value != found[0]:
                self._common_error = RankError(
                    rank,
                    f"its {name} differ from those of rank 0, which only a faulty machine or library causes",
                )
                raise self._common_error

    def _follow(self, program: object) -> Any:
        """Call the methods that rank 0 broadcasts until its function ends; return the function's value."""
        while True:
            method, *arguments = self.communicator.broadcast(None)
            if method is None:
                value, fault = arguments
                if fault is not None:
                    raise RankError(*fault)
                return value
            with contextlib.suppress(Exception):  # rank 0 raises it too, otherwise `call_failed` has ended the job
                getattr(program, method)(*arguments)
