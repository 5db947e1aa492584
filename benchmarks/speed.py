"""How fast Axone is: training, generation, reading a prompt and starting, in races against the peers; all or those named.

    python benchmarks/speed.py [RACE ...] [--peer-python PATH] [--rounds N] [--json FILE]

A ratio is the peer's time or memory divided by ours, so more is better. The peers are PyTorch, JAX and transformers in the
environment of ``--peer-python``; compiled PyTorch needs a C++ compiler too. `training` and `generation` say what is
compared, `harness` how a race is run.
"""

import argparse
import json
import sys
from pathlib import Path

import generation
import training
from harness import as_json, cores, machine

RACES = {**training.RACES, **generation.RACES}


def main() -> None:
    """Run the races that were asked for, and print their table, the machine and the versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help=f"of {', '.join(RACES)} (default: all)")
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="of an environment with the peers"
    )
    parser.add_argument(
        "--threads", type=int, default=cores(), metavar="N", help="for each contender (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of each race (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    chosen = options.races or list(RACES)
    if unknown := set(chosen) - set(RACES):
        parser.error(f"the races are {', '.join(RACES)}, and {', '.join(sorted(unknown))} is none of them")
    rows, measured, versions = [], {"machine": machine()}, {}
    for name in chosen:
        print(f"{name}:", file=sys.stderr)
        results, more = RACES[name](options)
        measured[name] = as_json(results)
        rows += more
        for result in results.values():
            versions |= result.versions
    print("| work | against | Axone | peer | ratio | bound |\n|---|---|---|---|---|---|")
    print("\n".join(row.markdown() for row in rows))
    about = {**measured["machine"], **versions, "threads": options.threads}
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
