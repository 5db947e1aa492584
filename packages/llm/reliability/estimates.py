"""Compare the estimates before a training with the time and memory of the training, each in its own process.

    python packages/llm/reliability/estimates.py [--seconds N] [--workers N] [PRESET ...]

The measured memory is the peak of the process until the end of the training, plus the private memory of its worker
processes at the last evaluation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from axone.llm import (
    PRESETS,
    Callback,
    EvaluationEvent,
    LanguageModel,
    TokenDataset,
    Trainer,
    preset,
    python_source,
)
from axone.llm.runtime import resources
from axone.tokenizer import CharTokenizer

MAX_DEVIATION = 0.2
TRIAL_STEPS = 20  # of the first estimate, which gives the number of steps for the wanted time


def main() -> int:
    """Print a table; return 1 if an estimate is off by more than a fifth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="preset to measure (default: all)")
    parser.add_argument(
        "--seconds", type=float, default=40.0, metavar="N", help="approximate duration of each training (default: 40)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads or processes (default: one per core)")
    parser.add_argument("--one", metavar="PRESET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.seconds, options.workers)))
        return 0
    print(
        "preset        parameters  steps    time, s: estimated  measured  ratio    memory, MB: estimated  measured  ratio"
    )
    good = True
    for name in options.presets or PRESETS:
        command = [sys.executable, __file__, "--one", name, "--seconds", str(options.seconds)]
        command += [] if options.workers is None else ["--workers", str(options.workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        parameters, steps, estimated, took, estimated_memory, took_memory = json.loads(done.stdout)
        time, memory = estimated / took, estimated_memory / took_memory
        print(
            f"{name:12}{parameters:12,}{steps:7,}{estimated:20.1f}{took:10.1f}{time:7.2f}"
            f"{estimated_memory / 2**20:26,.0f}{took_memory / 2**20:10,.0f}{memory:7.2f}",
            flush=True,
        )
        good = good and abs(time - 1) <= MAX_DEVIATION and abs(memory - 1) <= MAX_DEVIATION
    return 0 if good else 1


class Processes(Callback):
    """Measures the private memory of the worker processes."""

    memory = 0

    def on_evaluation(self, event: EvaluationEvent) -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        if children.exists():
            self.memory = sum(resources.private_memory(int(process)) for process in children.read_text().split())


def measured(name: str, seconds: float, workers: int | None) -> tuple[int, int, float, float, int, int]:
    """Return parameters, steps, and the estimated and measured time and memory."""
    plan, text = preset(name), python_source()
    tokenizer = CharTokenizer.train(text)
    dataset = TokenDataset.from_text(text, tokenizer)
    model = LanguageModel(plan.model_config(tokenizer.vocab_size), rng=np.random.default_rng(0))

    processes = Processes()

    def trainer(steps: int, run: Path | None = None) -> Trainer:
        config = plan.trainer_config(plan.model["context_length"], steps=steps, workers=workers)
        return Trainer(model, *dataset.split(), config, [processes], run=run)

    one = trainer(TRIAL_STEPS).estimate()
    with tempfile.TemporaryDirectory() as folder:
        steps = max(int(TRIAL_STEPS * seconds / one.seconds), 10)
        training = trainer(steps, Path(folder) / "run")
        estimate = training.estimate()
        end = training.fit()
    return (
        estimate.parameters,
        steps,
        estimate.seconds,
        end.seconds,
        estimate.memory or 0,
        (resources.peak_memory() or 0) + processes.memory,
    )


if __name__ == "__main__":
    sys.exit(main())
