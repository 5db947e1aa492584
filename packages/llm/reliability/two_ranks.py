"""Launchers of jobs of a few ranks: the mpiexec beside Python or the first one of the path, and network namespaces."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


@contextlib.contextmanager
def namespaces() -> Iterator[list[str]]:
    """Make two network namespaces, and yield the beginning of a command that runs a rank in each.

    mpiexec starts processes in the second one by a script instead of ssh. MPICH connects both by TCP: over UCX it would use
    shared memory, which the namespaces have in common.
    """
    mpiexec, *_, python, _, module = launcher()
    names = ["axone-rank-0", "axone-rank-1"]
    addresses = ["10.99.0.1", "10.99.0.2"]
    with contextlib.ExitStack() as made, tempfile.TemporaryDirectory() as folder:
        for name in names:
            _ip("netns", "add", name)
            made.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", "axone0", "netns", names[0], "type", "veth", "peer", "axone1", "netns", names[1])
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", f"axone{number}")
            _ip("-n", name, "link", "set", f"axone{number}", "up")
        script = Path(folder) / "enter"  # called as ssh is: [-x] HOST COMMAND
        script.write_text(
            '#!/bin/sh\n[ "$1" = -x ] && shift\nhost=$1; shift\n'
            'exec ip netns exec "axone-rank-$((${host##*.} - 1))" sh -c "$*"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        yield [
            *("ip", "netns", "exec", names[0], mpiexec, "-launcher", "ssh", "-launcher-exec", str(script)),
            *("-hosts", ",".join(addresses), "-localhost", addresses[0], "-iface", "axone0", "-n", "2"),
            *("-genv", "UCX_TLS", "tcp", "-genv", "MPIR_CVAR_NOLOCAL", "1", python, "-m", module),
        ]


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "ip", *arguments], check=True)
