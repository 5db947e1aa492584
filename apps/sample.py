"""Write text with a model that was trained: a run's best checkpoint, or any model folder.

    uv run apps/sample.py runs/NAME --prompt "def "
    uv run apps/sample.py runs/NAME --temperature 0.5 --max-new-tokens 1000 > story.txt

The text goes to standard output, all else to standard error.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import console
from axone.llm import Sampling, TextGenerator, load
from console import UserError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    parser = argparse.ArgumentParser(
        prog="sample.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a run, or a model folder")
    parser.add_argument(
        "--prompt", default="\n", metavar="TEXT", help="what the text goes on from (default: a new line)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=500, metavar="N", help="how much to write (default: 500)")
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 always takes the most probable (default: 0.8)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most probable only")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from those that make up the probability P")
    parser.add_argument("--seed", type=int, metavar="N", help="the same text every time (default: another each time)")
    options = parser.parse_args(arguments)
    if options.max_new_tokens < 1:
        parser.error(f"--max-new-tokens must be at least 1, and is {options.max_new_tokens}")
    if options.seed is not None and options.seed < 0:
        parser.error(f"--seed must not be negative, and is {options.seed}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Load and write; return the exit code."""
    options = parse(arguments)
    choice = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
    try:
        Sampling(**choice)
        generator = TextGenerator(*load(options.folder))
        rng = np.random.default_rng(options.seed)
        pieces = generator.stream(options.prompt, max_new_tokens=options.max_new_tokens, rng=rng, **choice)
        first = next(pieces, "")
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(str(error)) from error
    print(options.prompt.lstrip("\n") + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print(flush=True)
    return console.SUCCESS


if __name__ == "__main__":
    sys.exit(console.run(main))
