"""Time and peak memory of opening a model: a GGUF file, and a folder of GPT-2 124M with random weights.

    python benchmarks/opening.py SmolLM2-135M-Instruct.Q4_1.gguf [--rounds N]

Each round is a new process that opens the model, tokenizer included, after one that is not counted: the file is in the page
cache. Memory is the peak of the whole process divided by the size of the float32 weights. Linux.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine

from axone.llm import LanguageModel, LanguageModelConfig, ModelBundle
from axone.tokenizer import BPETokenizer

OPEN = """
import json, re, sys, time
from pathlib import Path
from axone.llm import open_bundle

begin = time.perf_counter()
bundle = open_bundle(sys.argv[1])
seconds = time.perf_counter() - begin
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
weights = 4 * sum(parameter.size for parameter in bundle.model.parameters())
print(json.dumps([seconds, peak / weights]))
"""


def measure(path: Path, rounds: int) -> list[tuple[float, float]]:
    """Return seconds and memory of each round."""
    results = []
    for _ in range(rounds + 1):
        output = subprocess.run([sys.executable, "-c", OPEN, str(path)], check=True, capture_output=True, text=True)
        results.append(tuple(json.loads(output.stdout)))
    return results[1:]


def report(name: str, path: Path, options: argparse.Namespace, limit: float) -> bool:
    """Print a row; return whether the targets are met."""
    results = measure(path, options.rounds)
    seconds, memory = (statistics.median(column) for column in zip(*results))
    fastest, slowest = min(results)[0], max(results)[0]
    met = seconds <= limit and memory <= 1.25
    print(
        f"{name:16} {seconds:.2f} s ({fastest:.2f} to {slowest:.2f}, target {limit}), "
        f"{memory:.2f} x float32 weights (target 1.25){'' if met else '  MISSED'}"
    )
    return met


def main() -> int:
    """Measure both; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path, help="SmolLM2-135M, or another file of its size")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="counted processes (default: 7)")
    options = parser.parse_args()
    print(json.dumps(machine()))
    with tempfile.TemporaryDirectory() as name:
        tokenizer = BPETokenizer.train("the quick brown fox jumps over the lazy dog " * 9, 280)
        ModelBundle(LanguageModel(LanguageModelConfig.gpt2()).eval(), tokenizer).write(name)
        met = [
            report(options.gguf.stem[:16], options.gguf, options, 2.5),
            report("GPT-2 124M", Path(name), options, 1.5),
        ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
