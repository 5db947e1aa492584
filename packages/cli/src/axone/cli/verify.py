"""Compare a model with transformers: token ids, queries and keys of every layer, logits and greedy text.

  axone verify FOLDER                                    where transformers and torch are installed
  axone verify FOLDER --save-golden golden.safetensors   there, write what transformers computes
  axone verify FOLDER --golden golden.safetensors        elsewhere

In a clone, uv installs both for one call, some gigabytes: uv run --with transformers --with torch apps/verify.py FOLDER.
For a .gguf file transformers needs gguf and accelerate, too. The table has a row for each quantity, from the first stage of
the computation to the last, with the largest difference and the largest number.

Exit status: 0 everything agrees, 1 something differs, 2 an error to mend, 130 interrupted.
"""

import argparse
from pathlib import Path

from axone.cli import console
from axone.cli.invocation import CommandParser
from axone.llm import save_golden, verify

DIFFERS = 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone verify PATH [options]",
        description=__doc__,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="model folder or .gguf file")
    add("--golden", type=Path, metavar="FILE", help="file to compare with, instead of transformers")
    add("--save-golden", type=Path, metavar="FILE", help="file to write with what transformers computes")
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Compare and print a table; return the exit status."""
    options = parse(arguments)
    if options.save_golden is not None:
        save_golden(options.path, options.save_golden)
        console.say(f"wrote {options.save_golden}")
        return console.SUCCESS
    report = verify(options.path, options.golden)
    print(report)
    print("everything agrees" if report.passed else "the model differs: the first quantity that differs shows where")
    return console.SUCCESS if report.passed else DIFFERS
