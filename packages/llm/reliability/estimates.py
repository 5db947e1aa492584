"""Compare what is said before a training with what the training then takes, each in a process of its own.

    python packages/llm/reliability/estimates.py [--seconds N] [--workers N] [PRESET ...]

The measured memory is the most that the process has held until the training's end, the saving included, and what its
worker processes held besides at the last evaluation.
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

MOST_OFF = 0.2
TRIED = 20  # steps, to see how many fill the time


def main() -> int:
    """Print a table; return 1 if an estimate is off by more than a fifth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="which to try (default: all)")
    parser.add_argument("--seconds", type=float, default=40.0, metavar="N", help="about how long each (default: 40)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: one for each core)")
    parser.add_argument("--one", metavar="PRESET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.seconds, options.workers)))
        return 0
    print("preset        parameters  steps    time, s: said  took   ratio    memory, MB: said  took   ratio")
    good = True
    for name in options.presets or PRESETS:
        command = [sys.executable, __file__, "--one", name, "--seconds", str(options.seconds)]
        command += [] if options.workers is None else ["--workers", str(options.workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        parameters, steps, said, took, said_memory, took_memory = json.loads(done.stdout)
        time, memory = said / took, said_memory / took_memory
        print(
            f"{name:12}{parameters:12,}{steps:7,}{said:17.1f}{took:7.1f}{time:8.2f}"
            f"{said_memory / 2**20:20,.0f}{took_memory / 2**20:7,.0f}{memory:8.2f}",
            flush=True,
        )
        good = good and abs(time - 1) <= MOST_OFF and abs(memory - 1) <= MOST_OFF
    return 0 if good else 1


class Processes(Callback):
    """Looks how much memory the worker processes hold."""

    memory = 0

    def on_evaluation(self, event: EvaluationEvent) -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        if children.exists():
            self.memory = sum(resources.private_memory(int(process)) for process in children.read_text().split())


def measured(name: str, seconds: float, workers: int | None) -> tuple[int, int, float, float, int, int]:
    """Return parameters, steps, and time and memory as they were said and as they were."""
    plan, text = preset(name), python_source()
    tokenizer = CharTokenizer.train(text)
    dataset = TokenDataset.from_text(text, tokenizer)
    model = LanguageModel(plan.model_config(tokenizer.vocab_size), rng=np.random.default_rng(0))

    processes = Processes()

    def trainer(steps: int, run: Path | None = None) -> Trainer:
        config = plan.trainer_config(plan.model["context_length"], steps=steps, workers=workers)
        return Trainer(model, *dataset.split(), config, [processes], run=run)

    one = trainer(TRIED).estimate()
    with tempfile.TemporaryDirectory() as folder:
        steps = max(int(TRIED * seconds / one.seconds), 10)
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
