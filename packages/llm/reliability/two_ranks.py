"""Launcher of jobs of a few ranks: the mpiexec beside Python, or the first one of the path."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

PROBE = "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size())"


class NoMPIError(Exception):
    """No job of two ranks can be started here."""


def launcher(ranks: int = 2) -> list[str]:
    """Return the beginning of a command that runs a Python program on some ranks.

    Raises
    ------
    NoMPIError
        With the reason.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None or importlib.util.find_spec("mpi4py") is None:
        raise NoMPIError("mpi4py or mpiexec is not installed")
    command = [mpiexec, "-n", str(ranks), sys.executable]
    found = subprocess.run([*command, "-c", PROBE], capture_output=True, text=True, check=False, timeout=300)
    if "".join(found.stdout.split()) != str(ranks) * ranks:  # lines of several ranks may mix
        raise NoMPIError(f"{mpiexec} starts no job of {ranks} ranks for mpi4py: {found.stdout}{found.stderr}")
    return [*command, "-m", "mpi4py"]
