"""Crash before and after every call that changes the disk, and check the run that remains.

The crashing process is a fork that ends by ``os._exit`` in the middle of a call: nothing is cleaned up or flushed. In
every case either no checkpoint had been written, or one can be loaded, and the resumed run ends with the weights of an
uninterrupted run.

    python packages/llm/reliability/crash_points.py [--last]

``--last`` tries only the points of a resumed run in its last step. Windows has no fork and is not supported.
"""

import argparse
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have one thread

from disk_shim import DiskCall, DiskShim
from tiny import trainer, weights_sum

from axone.llm import Callback, CheckpointError, Run, StepEvent, Trainer
from axone.llm.storage.atomic import leftovers

STEPS = 4
CRASHED = 77


class StopBeforeTheLast(Callback):
    """Interrupts a training when one step is left."""

    def on_step(self, event: StepEvent) -> None:
        if event.step == STEPS - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in background jobs of a script


def main() -> int:
    """Try all crash points; return 1 if a checkpoint was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last", action="store_true", help="crash points of the last step only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run, begun = Path(name) / "run", Path(name) / "begun"
        if options.last:
            trainer(begun, STEPS, [StopBeforeTheLast()]).fit()
            shutil.copytree(begun, run)
        with DiskShim(run.parent) as shim:
            whole = begin(run)
            whole.fit()
        expected = weights_sum(whole.model)
        points = list(itertools.product(range(len(shim.calls)), ("before", "after")))
        outcomes: Counter[str] = Counter()
        doomed = None
        for number, when in points:
            shutil.rmtree(run, ignore_errors=True)
            if options.last:
                shutil.copytree(begun, run)
            doomed = doomed or begin(run)  # shared by all points: only forks train with it
            outcomes[crash(doomed, run, number, when, expected)] += 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{len(points):6}  crash points, before and after each of {len(shim.calls)} calls")
    return 0 if set(outcomes) <= {"resumed, same weights", "not started"} else 1


def begin(run: Path) -> Trainer:
    """Return a trainer for a new run, or for an existing one."""
    return Trainer.resume(run) if run.exists() else trainer(run, STEPS)


def crash(doomed: Trainer, run: Path, number: int, when: str, expected: str) -> str:
    """Crash at one point, and return the outcome."""
    child = os.fork()
    if child == 0:
        die_at(doomed, run, number, when)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != CRASHED:
        return f"did not crash {when} call {number}"
    begun = bool(Run(run).checkpoints())
    try:
        resumed = Trainer.resume(run)
    except CheckpointError as error:
        return f"lost: {error}" if begun else "not started"
    resumed.fit()
    left = leftovers(run) + leftovers(run / "checkpoints")
    if left:
        return f"left {left[0].name} behind"
    return "resumed, same weights" if weights_sum(resumed.model) == expected else "resumed, other weights"


def die_at(doomed: Trainer, run: Path, number: int, when: str) -> None:
    """Train, and exit the process at a call."""

    def die(call: DiskCall) -> None:
        if call.number == number:
            os._exit(CRASHED)

    with DiskShim(run.parent, before=die) if when == "before" else DiskShim(run.parent, after=die):
        doomed.fit()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
