"""Kill a training of ten minutes repeatedly with SIGKILL, resume it, and compare it with an uninterrupted training.

It trains a preset on the source of Python's standard library, first without interruption, then in processes that are
killed at random moments of random steps: while they start, compute, evaluate or save. The final weights and optimizer
states and every line of the metrics must be equal bit for bit.

    python packages/llm/reliability/long_run.py [--steps N] [--kills N] [--seed N] [--folder FOLDER]
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from axone.llm import (
    Callback,
    LanguageModel,
    MetricsFile,
    Run,
    StepEvent,
    TokenDataset,
    Trainer,
    format_duration,
    preset,
    python_source,
    read_metrics,
)
from axone.tokenizer import CharTokenizer

SAVE_EVERY = 10  # steps


class Report(Callback):
    """Writes the number of every step to standard output, which outlives the process."""

    def on_step(self, event: StepEvent) -> None:
        os.write(sys.stdout.fileno(), f"{event.step}\n".encode())


@dataclass
class History:
    """Kills, lost steps and duration of a training."""

    kills: int = 0
    lost: list[int] = field(default_factory=list)  # steps to repeat, per kill
    seconds: float = 0.0


def main() -> int:
    """Train twice and compare; return 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=6000, metavar="N", help="number of steps (default: 6000, ten minutes)"
    )
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="minimum number of kills (default: 30)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the moments (default: 0)")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="folder for the runs (default: a temporary one)")
    parser.add_argument("--preset", default="default", metavar="NAME", help="preset to train (default: default)")
    parser.add_argument("--life", metavar="RUN", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.life:
        return live(Path(options.life), options.preset, options.steps)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        steps = options.steps
        alone = trained(whole, options.preset, steps, [])
        rng = np.random.default_rng(options.seed)
        longest = 2 * steps // (options.kills + options.kills // 4)  # steps: the mean is half of it
        deaths = [(int(rng.integers(longest)), rng.uniform()) for _ in range(steps)]
        survived = trained(killed, options.preset, steps, deaths)
        return compare(whole, killed, steps, alone, survived, options.kills)


def compare(whole: Path, killed: Path, steps: int, alone: History, survived: History, kills: int) -> int:
    """Print the results; return 1 if anything differs or was lost."""
    one, other = (Run(run).latest().path for run in (whole, killed))
    files = ("model.safetensors", "trainer.safetensors")
    same = one.name == other.name and all((one / name).read_bytes() == (other / name).read_bytes() for name in files)
    figures = [metrics(run) for run in (whole, killed)]
    complete = [line["step"] for line in figures[1] if line["kind"] == "step"] == list(range(1, steps + 1))
    print(
        f"{steps:6}  steps, {format_duration(alone.seconds)} uninterrupted, {format_duration(survived.seconds)} with the kills"
    )
    print(f"{survived.kills:6}  kills, at most {max(survived.lost)} steps lost, saving every {SAVE_EVERY}")
    print(f"        the final weights and optimizer states are {'the same' if same else 'DIFFERENT'}")
    print(
        f"        all {len(figures[1])} lines of metrics are {'the same' if figures[0] == figures[1] else 'DIFFERENT'}"
    )
    good = same and complete and figures[0] == figures[1]
    return 0 if good and survived.kills >= kills and max(survived.lost) <= SAVE_EVERY else 1


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without durations."""
    timed = ("seconds", "tokens_per_second", "run")
    return [{name: line[name] for name in line if name not in timed} for line in read_metrics(run / "metrics.jsonl")]


def trained(run: Path, name: str, steps: int, deaths: Sequence[tuple[int, float]]) -> History:
    """Train in processes that are killed after given steps and seconds, until one of them finishes."""
    lives, began = History(), time.monotonic()
    command = [sys.executable, __file__, "--preset", name, "--steps", str(steps), "--life", str(run)]
    for number, pause in [*deaths, (steps + 1, 0.0)]:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            out = cast("IO[bytes]", process.stdout)
            made = list(itertools.islice(out, number))
            if len(made) == number:
                time.sleep(pause)
                process.kill()
            made += out
        if process.returncode == -signal.SIGKILL:
            lives.kills += 1
            lives.lost.append(int(made[-1]) - Run(run).latest().step if made else 0)
        elif process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        else:
            break
    lives.seconds = time.monotonic() - began
    return lives


def live(run: Path, name: str, steps: int) -> int:
    """Continue or start a run, until the process is killed."""
    again = Run(run).checkpoints()
    one = Trainer.resume(run) if again else trainer(run, name, steps)
    one.callbacks += [Report(), MetricsFile(run / "metrics.jsonl")]
    one.fit()
    return 0


def trainer(run: Path, name: str, steps: int) -> Trainer:
    """Return a trainer for a new run, also in place of one that was killed before its first checkpoint."""
    plan = preset(name)
    text = python_source()
    tokenizer = CharTokenizer.train(text)
    dataset = TokenDataset.from_text(text, tokenizer, run.with_name("tokens.bin"))
    model = LanguageModel(plan.model_config(tokenizer.vocab_size), rng=np.random.default_rng(0))
    config = plan.trainer_config(
        plan.model["context_length"], steps=steps, save_every=SAVE_EVERY, eval_every=8 * SAVE_EVERY
    )
    return Trainer(model, *dataset.split(), config, run=run, overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
