"""Kill a random rank of a job at a random moment, resume the run, and compare it with an undisturbed job.

Each trial starts four ranks that train together and save every step, kills one of them with SIGKILL, and measures the
seconds until mpiexec and all ranks have ended. The job must fail, and the run must resume to the same weights and moments, bit for bit.

    python packages/llm/reliability/rank_kills.py [--ranks N] [--kills N] [--seed N] [--namespaces]

With ``--namespaces`` there are two ranks, each in a network namespace with an address of its own, as on two machines:
MPI connects them by TCP. This needs Linux, root and the command ``ip``.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from two_ranks import launcher, namespaces

PROGRAM = str(Path(__file__).with_name("tiny_ranks.py"))
LONGEST = 10.0  # seconds until a job without one of its ranks must have ended
FILES = "model.safetensors", "trainer.safetensors"


def main() -> int:
    """Run all trials; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4, metavar="N", help="number of ranks (default: 4)")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="number of trials (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of ranks and moments (default: 0)")
    parser.add_argument("--namespaces", action="store_true", help="two ranks in network namespaces")
    options = parser.parse_args()
    if not options.namespaces:
        return trials(launcher(options.ranks), options.ranks, options.kills, options.seed)
    with namespaces() as command:
        return trials(command, 2, options.kills, options.seed)


def trials(command: list[str], ranks: int, kills: int, seed: int) -> int:
    """Run all trials with a launcher, and print the outcomes."""
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = time.perf_counter()
        subprocess.run([*command, PROGRAM, name, "is_undisturbed"], check=True)
        seconds = time.perf_counter() - before
        expected = weights(folder / "undisturbed")
        while sum(outcomes.values()) < kills:
            shutil.rmtree(folder / "disturbed", ignore_errors=True)
            ended = killed_after(command, folder, int(rng.integers(ranks)), rng.uniform(0, seconds))
            if ended is None:  # the job had ended before
                continue
            slowest = max(slowest, ended)
            resumed = subprocess.run([*command, PROGRAM, name, "is_disturbed"], check=False).returncode == 0
            same = resumed and weights(folder / "disturbed") == expected
            outcome = "same weights and moments" if same else "other weights" if resumed else "not resumed"
            outcomes[outcome] += 1
            print(f"{outcome}; the job ended {ended:.1f} s after the kill", flush=True)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{kills:6}  kills of one of {ranks} ranks; the job ended at most {slowest:.1f} s later")
    return 0 if set(outcomes) == {"same weights and moments"} and slowest < LONGEST else 1


def killed_after(command: list[str], folder: Path, rank: int, seconds: float) -> float | None:
    """Start a job, kill a rank, and return the seconds until all its processes have ended; None if it had ended before.

    Raises
    ------
    RuntimeError
        If mpiexec reports success.
    """
    pids = folder / "pids"
    shutil.rmtree(pids, ignore_errors=True)
    pids.mkdir()
    with (folder / "output").open("wb") as output:
        job = subprocess.Popen([*command, PROGRAM, str(folder), "is_disturbed"], stdout=output, stderr=output)
        time.sleep(seconds)
        while not (pids / str(rank)).exists() and job.poll() is None:
            time.sleep(0.01)  # MPI has not been initialized yet
        if job.poll() is not None:
            return None
        before = time.perf_counter()
        os.kill(int((pids / str(rank)).read_text(encoding="utf-8")), signal.SIGKILL)
        status = job.wait()
        others = [int(path.read_text(encoding="utf-8")) for path in pids.iterdir() if path.name.isdigit()]
        while any(runs(pid) for pid in others):
            time.sleep(0.01)
    if status == 0:
        raise RuntimeError(f"mpiexec must fail after rank {rank} was killed")
    return time.perf_counter() - before


def runs(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def weights(run: Path) -> list[bytes]:
    """Return the files of the last checkpoint of a run."""
    return [(run / "checkpoints/step-000012" / name).read_bytes() for name in FILES]


if __name__ == "__main__":
    sys.exit(main())
