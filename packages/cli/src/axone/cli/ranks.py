"""Ranks of an app that mpiexec has started: rank 0 prints, and every rank ends with the same status."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from axone.cli.console import sentence
from axone.llm.distributed import Communicator, launched_rank, world


@contextlib.contextmanager
def joined() -> Iterator[Communicator]:
    """Join the job, if there is one, and discard the output of all ranks but rank 0.

    An error of one rank is raised in all of them, so that rank 0 prints its sentence. Only the traceback of an unexpected
    error is printed by the rank that it belongs to.
    """
    streams = sys.stdout, sys.stderr
    try:
        if launched_rank()[0]:
            _discard_output()
        communicator = world()
        if communicator.rank:  # also of a launcher whose variables are unknown
            _discard_output()
        yield communicator
    except Exception as error:
        if sentence(error) is None:
            sys.stdout, sys.stderr = streams
        raise


def _discard_output() -> None:
    """Replace the standard streams until the process ends."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the end


def describe_workers(ranks: Communicator, workers: int) -> str:
    """Return the number of workers, after that of ranks if there are several."""
    counted = "1 worker" if workers == 1 else f"{workers} workers"
    return counted if ranks.world_size == 1 else f"{ranks.world_size} ranks of {counted}"
