"""Benchmarks of training, decoding, prefill and start-up against PyTorch, JAX, transformers and llama.cpp.

    python benchmarks/speed.py [RACE ...] [--peer-python PATH] [--rounds N] [--json FILE]
        [--model PATH] [--llama-python PATH] [--run RUN]

A ratio is the peer's time or memory divided by ours, so more is better. The peers are installed in the environment of
``--peer-python``; compiled PyTorch also needs a C++ compiler. The races of a real model need ``--model``, and llama.cpp
takes part with ``--llama-python``; ``corpus-drafts`` needs a run that was trained with the preset medium. `training`,
`generation` and `pretrained` define the comparisons, `harness` runs them.
"""

import argparse
import json
import sys
from pathlib import Path

import generation
import pretrained
import training
from harness import as_json, cores, machine

RACES = {**training.RACES, **generation.RACES, **pretrained.RACES}


def main() -> None:
    """Run the selected races, and print their table, the machine and the versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help=f"races to run: {', '.join(RACES)} (default: all)")
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        metavar="PATH",
        help="Python interpreter of an environment with the peers",
    )
    parser.add_argument(
        "--threads", type=int, default=cores(), metavar="N", help="threads per contender (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds of each race (default: 7)")
    parser.add_argument("--model", type=Path, metavar="PATH", help="SmolLM2-135M-Instruct, a .gguf file or a folder")
    parser.add_argument(
        "--llama-python", metavar="PATH", help="Python interpreter of an environment with llama-cpp-python"
    )
    parser.add_argument("--run", type=Path, metavar="RUN", help="run that was trained with the preset medium")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all measurements")
    options = parser.parse_args()
    given = [name for name in RACES if name not in pretrained.NEEDS or getattr(options, pretrained.NEEDS[name])]
    chosen = options.races or given
    if unknown := set(chosen) - set(RACES):
        parser.error(f"unknown race: {', '.join(sorted(unknown))}; the races are {', '.join(RACES)}")
    if missing := sorted({pretrained.NEEDS[name] for name in set(chosen) - set(given)}):
        parser.error(f"the races {', '.join(chosen)} need --{' and --'.join(missing)}")
    rows, measured, versions = [], {"machine": machine()}, {}
    for name in chosen:
        print(f"{name}:", file=sys.stderr)
        results, more = RACES[name](options)
        measured[name] = as_json(results)
        rows += more
        for result in results.values():
            versions |= result.versions
    print("| work | against | Axone | peer | ratio | target |\n|---|---|---|---|---|---|")
    print("\n".join(row.markdown() for row in rows))
    about = {**measured["machine"], **versions, "threads": options.threads}
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
