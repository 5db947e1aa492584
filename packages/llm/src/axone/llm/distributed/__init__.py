"""Training on several ranks, on one machine or several: ``mpiexec -n 4 python -m mpi4py program.py``.

Every rank runs the whole program. `world` returns the communicator of the job; a `Trainer` that is given it trains one
model: each rank computes its share of every batch, and rank 0 alone calls the callbacks and writes the run. MPI needs
``pip install "axone-llm[mpi]"`` and an MPI library; nothing imports mpi4py before `world` is called in a job.
"""

from axone.llm.distributed.job import in_turn, require_same_job, workers_per_rank
from axone.llm.distributed.launch import launched_rank, world
from axone.llm.runtime.communicator import Communicator, SingleProcess, run_together, together

__all__ = [
    "Communicator",
    "SingleProcess",
    "in_turn",
    "launched_rank",
    "require_same_job",
    "run_together",
    "together",
    "workers_per_rank",
    "world",
]
