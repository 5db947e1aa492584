"""Damage checkpoints in six ways, and try to load them.

Each damaged folder must be refused with a `CheckpointError` that names a file and a reason, in less than a second. Half of
the trials remove the manifest first, as if another program had written the folder: a changed weight then cannot be
detected, but no error other than a `CheckpointError` may be raised.

    python packages/llm/reliability/mutations.py [--count N] [--seed N] [--memory]

``--memory`` measures the peak memory of loading a checkpoint of 100 MB, on Linux.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tiny import trainer

from axone.llm import CheckpointError, LanguageModel, LanguageModelConfig, load
from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.checkpoints.checkpoint import MANIFEST, Checkpoint, TrainingState
from axone.llm.checkpoints.run import Run
from axone.tokenizer import CharTokenizer

MAX_SECONDS = 1.0
GARBAGE: tuple[Any, ...] = (None, True, -1, 0, 1.5, 1e308, 10**30, "", "many", [], {}, [1, "a"], "\0", {"a": {}})

LOAD = """
import re, sys
from pathlib import Path
from axone.llm import load

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
load(sys.argv[1])
print(peak() - before)
"""


def main() -> int:
    """Run all trials; return 1 if one was not refused as required."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="number of trials (default: 20,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the damage (default: 0)")
    parser.add_argument("--memory", action="store_true", help="measurement of memory instead of damage")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # skipped checkpoints
    with tempfile.TemporaryDirectory() as name:
        return memory(Path(name)) if options.memory else trials(Path(name), options.count, options.seed)


def trials(folder: Path, count: int, seed: int) -> int:
    """Damage and load checkpoints, and print the outcomes."""
    rng = np.random.default_rng(seed)
    trainer(folder / "run", 3).fit()
    newest, other = (checkpoint.path for checkpoint in reversed(Run(folder / "run").checkpoints()[-2:]))
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        kind, damage = list(MUTATIONS.items())[number % len(MUTATIONS)]
        with_manifest = number // len(MUTATIONS) % 2 == 0
        broken = folder / "broken"
        shutil.copytree(newest, broken)
        if not with_manifest:
            (broken / MANIFEST).unlink()
        damage(broken, other, rng)
        before = time.process_time()  # without the time of other processes
        outcome = outcome_of(broken)
        slowest = max(slowest, time.process_time() - before)
        outcomes[f"{kind}, {'with' if with_manifest else 'without'} manifest: {outcome}"] += 1
        shutil.rmtree(broken)
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:6}  {outcome}")
    bad = [outcome for outcome in outcomes if "refused" not in outcome and not outcome.endswith("out manifest: loaded")]
    print(f"{count:6}  damaged checkpoints, the slowest refused or loaded after {slowest:.2f} s")
    return 1 if bad or slowest > MAX_SECONDS else 0


def outcome_of(folder: Path) -> str:
    """Load a folder with its training state, and return the outcome."""
    try:
        load(folder)
        checkpoint = Checkpoint(folder)
        checkpoint.training_state()
        checkpoint.optimizer_state()
    except CheckpointError as error:
        return "refused" if str(error.path) in str(error) and error.reason else "refused without a reason"
    except Exception as error:  # noqa: BLE001 - any other is what this looks for
        return f"{type(error).__name__}: {error}"
    return "loaded"


def some_file(folder: Path, rng: np.random.Generator) -> Path:
    """Return a random file, each with the same probability."""
    files = sorted(folder.iterdir())
    return files[rng.integers(len(files))]


def flip_bit(folder: Path, _other: Path, rng: np.random.Generator) -> None:
    """Flip one bit anywhere."""
    path = some_file(folder, rng)
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def truncate(folder: Path, _other: Path, rng: np.random.Generator) -> None:
    """Cut a file at a hundredth of its length."""
    path = some_file(folder, rng)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * int(rng.integers(100)) // 100])


def swap(folder: Path, other: Path, rng: np.random.Generator) -> None:
    """Replace a file by that of another step which differs."""
    differing = [path for path in sorted(folder.iterdir()) if path.read_bytes() != (other / path.name).read_bytes()]
    path = differing[rng.integers(len(differing))]
    shutil.copyfile(other / path.name, path)


def zero_fill(folder: Path, _other: Path, rng: np.random.Generator) -> None:
    """Overwrite the end of a file with zeros, as some file systems do after a crash."""
    path = some_file(folder, rng)
    content = path.read_bytes()
    kept = int(rng.integers(len(content)))
    path.write_bytes(content[:kept].ljust(len(content), b"\0") if any(content[kept:]) else b"\0" * len(content))


def edit_json(folder: Path, _other: Path, rng: np.random.Generator) -> None:
    """Change, remove or add a value in a JSON file."""
    paths = sorted(folder.glob("*.json"))
    path = paths[rng.integers(len(paths))]
    content = json.loads(path.read_text(encoding="utf-8"))
    places = list(walk(content))
    parent, key = places[rng.integers(len(places))]
    match rng.integers(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent["surprise"] = GARBAGE[rng.integers(len(GARBAGE))]
        case _:
            choices = [value for value in GARBAGE if value != parent[key] or type(value) is not type(parent[key])]
            parent[key] = choices[rng.integers(len(choices))]
    path.write_text(json.dumps(content), encoding="utf-8")


def lose(folder: Path, _other: Path, rng: np.random.Generator) -> None:
    """Remove a file other than the manifest, without which a folder is not checked."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    files[rng.integers(len(files))].unlink()


def walk(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every position in a JSON value, as its container and its key."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from walk(content[key])


MUTATIONS: dict[str, Callable[[Path, Path, np.random.Generator], None]] = {
    "a bit flipped": flip_bit,
    "a file truncated": truncate,
    "a file of another step": swap,
    "zeros at the end": zero_fill,
    "JSON edited": edit_json,
    "a file lost": lose,
}


def memory(folder: Path) -> int:
    """Print the peak memory of loading a large checkpoint; return 1 if it is more than twice the file."""
    text = "".join(map(chr, range(32, 127)))
    config = LanguageModelConfig(vocab_size=len(text), context_length=64, num_layers=8, num_heads=8, embed_dim=512)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Checkpoint.write(folder / "step-000001", ModelBundle(model, CharTokenizer.train(text)), TrainingState(step=1), {})
    size = (folder / "step-000001" / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", LOAD, str(folder / "step-000001")]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"a file of {size / 2**20:.0f} MB takes {taken / 2**20:.0f} MB to load")
    return 0 if taken <= 2 * size + (64 << 20) else 1


if __name__ == "__main__":
    sys.exit(main())
