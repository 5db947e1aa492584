"""Launch of a job: whether mpiexec or Slurm has started this process, and the communicator of its job."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from axone.llm.distributed.job import workers_per_rank
from axone.llm.distributed.mpi import MPICommunicator
from axone.llm.errors import LaunchError, MissingDependencyError
from axone.llm.runtime.communicator import Communicator, SingleProcess

# MPICH, Intel MPI and Slurm's PMI; Open MPI; Slurm's srun with any MPI.
_VARIABLES = [
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
]


def launched_rank(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return rank and world size as the launcher's environment variables have them, without importing MPI.

    Parameters
    ----------
    environment : mapping of str to str

    Returns
    -------
    rank, world_size : int
        0 and 1 if no launcher that is known has started this process.
    """
    for rank, size in _VARIABLES:
        if environment.get(rank, "").isdigit() and environment.get(size, "").isdigit():
            return int(environment[rank]), int(environment[size])
    return 0, 1


def world() -> Communicator:
    """Return the communicator of all ranks of the job, or that of this process alone if it has no others.

    A process has others if mpiexec or srun has started it, or if it runs under ``python -m mpi4py``.

    Returns
    -------
    Communicator

    Raises
    ------
    MissingDependencyError
        If mpi4py is not installed.
    LaunchError
        If mpi4py finds no MPI library, or belongs to another one than mpiexec.
    """
    _, expected = launched_rank()
    if expected == 1 and "mpi4py" not in sys.modules:
        return SingleProcess()
    try:
        communicator = MPICommunicator()
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        raise MissingDependencyError("several ranks", "mpi4py", "axone-llm[mpi]") from error
    except (ImportError, RuntimeError) as error:  # mpi4py loads the library when it is imported
        reason = str(error).split("\n", 1)[0]
        raise LaunchError(
            f"mpi4py finds no MPI library ({reason}): install one, such as with pip install mpich"
        ) from error
    return _checked(communicator, expected)


def _checked(communicator: Communicator, expected: int) -> Communicator:
    """Return a communicator of the size that the launcher has set; that of one process if it is 1."""
    if communicator.world_size < expected:
        raise LaunchError(
            f"mpiexec has started {expected} ranks, but MPI has {communicator.world_size}: run the mpiexec of the MPI library that mpi4py "
            "uses (python -m mpi4py --mpi-library shows it)"
        )
    if communicator.world_size == 1:
        return SingleProcess()
    communicator.default_workers = workers_per_rank(communicator)
    return communicator
