"""Kill a training with SIGKILL at random moments, resume it, and compare it with an uninterrupted training.

Each trial trains in its own process, is killed at a moment drawn uniformly from the duration of a whole training, and is
resumed to the end. Every latest checkpoint must be readable, at most one save interval may be lost, and the final weights
and all metrics must equal those of the uninterrupted training bit for bit.

    python packages/llm/reliability/kills.py [--kills N] [--seed N] [--finetuning]

With ``--finetuning`` the training is that of an adapter on conversations, whose checkpoints hold the adapter alone.

Windows has no fork and is not supported.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have one thread

import numpy as np
import tiny_finetuning
from tiny import trainer, weights_sum

from axone.llm import Callback, CheckpointError, MetricsFile, Run, StepEvent, Trainer, read_metrics

STEPS = 10
METRICS = "metrics.jsonl"

Make: TypeAlias = Callable[..., Trainer]
"""A function that returns a trainer for a run, a number of steps and callbacks."""


class Report(Callback):
    """Writes a byte per step to a pipe, which outlives the process."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def on_step(self, event: StepEvent) -> None:
        os.write(self._pipe, b".")


def main() -> int:
    """Run all trials; return 1 if one of them lost data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="number of trials (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the moments (default: 0)")
    parser.add_argument("--finetuning", action="store_true", help="train an adapter on conversations")
    options = parser.parse_args()
    make = tiny_finetuning.trainer if options.finetuning else trainer
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        before = time.perf_counter()
        whole = make(run, STEPS, [MetricsFile(run / METRICS)])
        whole.fit()
        seconds = time.perf_counter() - before
        expected = weights_sum(whole.model), losses(run)
        outcomes: Counter[str] = Counter()
        most_lost = 0
        while sum(outcomes.values()) < options.kills:
            shutil.rmtree(run, ignore_errors=True)
            steps = killed_after(make, run, rng.uniform(0, seconds))
            if steps is not None:
                outcome, lost = resumed(make, run, steps, expected)
                outcomes[outcome] += 1
                most_lost = max(most_lost, lost)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{options.kills:6}  kills, at most {most_lost} steps lost, saving every step")
    good = {f"{how}, same weights, same metrics" for how in ("resumed", "restarted")}
    return 0 if set(outcomes) <= good and most_lost <= 1 else 1


def killed_after(make: Make, run: Path, seconds: float) -> int | None:
    """Train in another process, kill it, and return its number of steps; None if it had ended before."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        make(run, STEPS, [Report(writing), MetricsFile(run / METRICS)]).fit()
        os._exit(0)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        steps = len(pipe.read())
    return steps if os.WIFSIGNALED(status) else None


def losses(run: Path) -> list[tuple[str, int, float]]:
    """Return kind, step and loss of every line of the metrics file."""
    lines = read_metrics(run / METRICS)
    return [(line["kind"], line["step"], line["loss"]) for line in lines if line["kind"] != "end"]


def resumed(make: Make, run: Path, steps: int, expected: tuple[str, list[tuple[str, int, float]]]) -> tuple[str, int]:
    """Resume a run to its end, and return the outcome and the number of lost steps."""
    checkpoints = Run(run).checkpoints()
    if checkpoints:
        try:
            saved = Run(run).latest().step
        except CheckpointError:
            return "unreadable", steps
        again, how = Trainer.resume(run, [MetricsFile(run / METRICS)]), "resumed"
    else:  # killed before the first weights were written
        saved, again, how = 0, make(run, STEPS, [MetricsFile(run / METRICS)], overwrite=True), "restarted"
    again.fit()
    weights, figures = weights_sum(again.model) == expected[0], losses(run) == expected[1]
    return f"{how}, {'same' if weights else 'other'} weights, {'same' if figures else 'other'} metrics", steps - saved


if __name__ == "__main__":
    sys.exit(main())
