"""Die before and after every single call that changes the disk, and look at what is left.

The process that dies is a fork, which ends in the middle of a call by ``os._exit``: nothing is cleaned up, nothing is
flushed. Whatever the moment, either no checkpoint had been written yet, or one can be loaded; and the run that is resumed
ends with the weights of the run that was left alone.

    python packages/llm/reliability/crash_points.py [--last]

``--last`` tries only the points in resuming a run for its last step. Not for Windows, which has no fork.
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
            os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in the background of a script


def main() -> int:
    """Try all crash points; return 1 if one of them lost anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last", action="store_true", help="only the points in the last step")
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
            doomed = doomed or begin(run)  # the same for all: only forks train with it
            outcomes[crash(doomed, run, number, when, expected)] += 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{len(points):6}  crash points, before and after each of {len(shim.calls)} calls")
    return 0 if set(outcomes) <= {"resumed, same weights", "not begun"} else 1


def begin(run: Path) -> Trainer:
    """Return a trainer for a run: a new one, or the one that is there."""
    return Trainer.resume(run) if run.exists() else trainer(run, STEPS)


def crash(doomed: Trainer, run: Path, number: int, when: str, expected: str) -> str:
    """Die at one point, and say what came of it."""
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
        return f"lost: {error}" if begun else "not begun"
    resumed.fit()
    left = leftovers(run) + leftovers(run / "checkpoints")
    if left:
        return f"left {left[0].name} behind"
    return "resumed, same weights" if weights_sum(resumed.model) == expected else "resumed, other weights"


def die_at(doomed: Trainer, run: Path, number: int, when: str) -> None:
    """Train, and end the process at a call."""

    def die(call: DiskCall) -> None:
        if call.number == number:
            os._exit(CRASHED)

    with DiskShim(run.parent, before=die) if when == "before" else DiskShim(run.parent, after=die):
        doomed.fit()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
