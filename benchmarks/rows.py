"""What all races end in: a table whose lines say how far ours is from a peer, on which machine, with which versions."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import Result, as_json, cores, machine


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    work, peer : str
    ours, theirs : float
        In `unit`.
    bound : float or None
        What ``theirs / ours`` should reach, where the project sets itself a bound.
    unit : str
        "s" or "MiB".
    """

    work: str
    peer: str
    ours: float
    theirs: float
    bound: float | None = None
    unit: str = "s"

    def markdown(self) -> str:
        """Return the line."""
        figures = " | ".join(
            f"{value * 1e3:.4g} ms" if self.unit == "s" else f"{value:.0f} MiB" for value in (self.ours, self.theirs)
        )
        bound = "" if self.bound is None else f"{self.bound:.3g}"
        return f"| {self.work} | {self.peer} | {figures} | {self.theirs / self.ours:.2f} | {bound} |"


Race = Callable[[argparse.Namespace], tuple[dict[str, Result], list[Row]]]
"""Runs contenders as the options say; returns what they did, and the lines that it is good for."""


def run(description: str, races: dict[str, Race]) -> None:
    """Run the races that the command line asks for, and print their table.

    Parameters
    ----------
    description : str
        For ``--help``.
    races : dict
        By name.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help=f"of {', '.join(races)} (default: all)")
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="of an environment with the peers"
    )
    parser.add_argument(
        "--threads", type=int, default=cores(), metavar="N", help="for each contender (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of each race (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    chosen = options.races or list(races)
    if unknown := set(chosen) - set(races):
        parser.error(f"the races are {', '.join(races)}, and {', '.join(sorted(unknown))} is none of them")
    rows, measured, versions = [], {"machine": machine()}, {}
    for name in chosen:
        print(f"{name}:", file=sys.stderr)
        results, more = races[name](options)
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
