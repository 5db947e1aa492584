"""Draw what a model attends to: a picture for every head of every layer, side by side.

uv run apps/attention.py runs/NAME                                 on a text that the model writes
uv run apps/attention.py runs/NAME --text "def load(path):"
uv run apps/attention.py runs/NAME --text "To be" --layers 1 4 --heads 2 --out to-be.png

Each row of a picture is a token that looks back, each column one that it looks at: the darker, the more of what the
head gathers there comes from it. The model's output at a row is its guess of the token in the next one.
"""

import argparse
import sys
from pathlib import Path

import console
from console import UserError

import numpy as np

from axone.llm import LanguageModel, attention_maps, generate, load, plot_attention
from axone.tokenizer import Tokenizer
from sample import usual_prompt

OWN_TOKENS = 24  # of a text that the model writes
DOTS_PER_INCH = 110


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    parser = argparse.ArgumentParser(
        prog="attention.py",
        usage="uv run apps/attention.py FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="a run, or a model folder")
    add("--text", metavar="TEXT", help=f"what it reads (default: {OWN_TOKENS} tokens that it writes)")
    add("--layers", type=int, nargs="+", metavar="N", help="which to draw, from 1 (default: all)")
    add("--heads", type=int, nargs="+", metavar="N", help="which to draw, from 1 (default: all)")
    add("--out", type=Path, metavar="FILE", help="the picture, as .png, .svg or .pdf (default: FOLDER/attention.png)")
    options = parser.parse_args(arguments)
    if options.out is None:
        options.out = options.folder / "attention.png"
    elif options.out.suffix not in {".png", ".svg", ".pdf"}:
        parser.error(f"--out must end in .png, .svg or .pdf, and is {options.out}")
    elif not options.out.absolute().parent.is_dir():
        parser.error(f"--out must lie in a folder that exists, and {options.out.parent} does not")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Read, look and draw; return the exit code."""
    options = parse(arguments)
    model, tokenizer = load(options.folder)
    try:
        ids = own_text(model, tokenizer, options.folder) if options.text is None else tokenizer.encode(options.text)
        maps = attention_maps(model, np.asarray(ids))
        layers, heads = counted_from_0("layers", options.layers, maps), counted_from_0("heads", options.heads, maps)
        figure = plot_attention(maps, [label(tokenizer, id) for id in ids], layers=layers, heads=heads)
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(str(error)) from error
    with console.writing(options.out):
        figure.savefig(options.out, dpi=DOTS_PER_INCH)
    print(options.out)
    return console.SUCCESS


def own_text(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Return the tokens of a short text that the model writes, the same each time."""
    ids = tokenizer.encode(usual_prompt(folder))
    more = min(OWN_TOKENS, model.config.context_length) - len(ids)
    return [*ids, *generate(model, ids, max_new_tokens=max(more, 0), temperature=0.8, rng=np.random.default_rng(0))]


def counted_from_0(name: str, numbers: list[int] | None, maps: np.ndarray) -> list[int] | None:
    """Return the numbers of layers or heads as the library counts them."""
    count = maps.shape[("layers", "heads").index(name)]
    if numbers is None:
        return None
    if not all(1 <= number <= count for number in numbers):
        raise UserError(f"--{name} must be among 1 to {count} for this model, and got {' '.join(map(str, numbers))}")
    return [number - 1 for number in numbers]


def label(tokenizer: Tokenizer, id: int) -> str:
    """Return a token as it can be seen on an axis, spaces and line ends included."""
    return tokenizer.token_repr(id).replace(" ", "·")


if __name__ == "__main__":
    sys.exit(console.run(main))
