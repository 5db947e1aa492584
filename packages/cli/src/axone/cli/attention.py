"""Draw the attention weights of a trained model: one map per head and layer.

axone attention runs/NAME                                 for a text that the model writes
axone attention runs/NAME --text "def load(path):"
axone attention runs/NAME --text "To be" --layers 1 4 --heads 2 --out to-be.png

Each row of a map is a token that attends, each column a token that is attended to: the darker, the larger the weight. The
output of a row predicts the token of the next row.
"""

import argparse
from pathlib import Path

import numpy as np

from axone.cli import console
from axone.cli.console import UserError, in_options
from axone.cli.invocation import CommandParser
from axone.llm import LanguageModel, Run, attention_maps, generate, load, plot_attention
from axone.tokenizer import Tokenizer

GENERATED_TOKENS, DRAWN_TOKENS = 240, 24
DOTS_PER_INCH = 110


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone attention FOLDER [options]",
        description=__doc__,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="run, model folder or .gguf file")
    add("--text", metavar="TEXT", help=f"text to read (default: {DRAWN_TOKENS} generated tokens)")
    add("--layers", type=int, nargs="+", metavar="N", help="layers to draw, counted from 1 (default: all)")
    add("--heads", type=int, nargs="+", metavar="N", help="heads to draw, counted from 1 (default: all)")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="picture to write, .png, .svg or .pdf (default: attention.png in FOLDER, or here)",
    )
    options = parser.parse(arguments)
    if options.out is None:
        options.out = (options.folder if options.folder.is_dir() else Path()) / "attention.png"
    elif options.out.suffix not in {".png", ".svg", ".pdf"}:
        parser.error(f"--out ({options.out}) must end in .png, .svg or .pdf")
    elif not options.out.absolute().parent.is_dir():
        parser.error(f"--out ({options.out}) must be in an existing folder: create {options.out.parent} first")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Compute the attention weights and draw them; return the exit status."""
    options = parse(arguments)
    model, tokenizer = load(options.folder)
    try:
        ids = generated(model, tokenizer, options.folder) if options.text is None else tokenizer.encode(options.text)
        maps = attention_maps(model, np.asarray(ids))
        layers, heads = counted_from_0("layers", options.layers, maps), counted_from_0("heads", options.heads, maps)
        figure = plot_attention(maps, [label(tokenizer, id) for id in ids], layers=layers, heads=heads)
    except ValueError as error:  # an option that the library refuses
        raise UserError(in_options(str(error))) from error
    console.save_picture(figure, options.out, dpi=DOTS_PER_INCH)
    print(options.out)
    return console.SUCCESS


def generated(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Return the tokens of a passage of a generated text, always the same: the one with the fewest spaces."""
    ids = tokenizer.encode(Run(folder).prompt)
    ids += generate(model, ids, max_new_tokens=GENERATED_TOKENS, temperature=0.8, rng=np.random.default_rng(0))
    spaces = [not tokenizer.decode([id]).strip() for id in ids]
    length = min(DRAWN_TOKENS, model.config.context_length, len(ids))
    begins = [i for i in range(len(ids) - length + 1) if not spaces[i] and (i == 0 or begins_word(tokenizer, ids, i))]
    begin = min(begins or [0], key=lambda i: sum(spaces[i : i + length]))  # the first of equal ones
    return ids[begin : begin + length]


def begins_word(tokenizer: Tokenizer, ids: list[int], position: int) -> bool:
    """Return whether a word begins with a token: behind a space, or with one."""
    before, token = (tokenizer.decode([id]) for id in ids[position - 1 : position + 1])
    return before[-1:].isspace() or token[:1].isspace()


def counted_from_0(name: str, numbers: list[int] | None, maps: np.ndarray) -> list[int] | None:
    """Return the numbers of layers or heads, counted from 0 as in the library."""
    count = maps.shape[("layers", "heads").index(name)]
    if numbers is None:
        return None
    if not all(1 <= number <= count for number in numbers):
        raise UserError(f"--{name} ({' '.join(map(str, numbers))}) must be from 1 to {count} for this model")
    return [number - 1 for number in numbers]


def label(tokenizer: Tokenizer, id: int) -> str:
    """Return a token as a label of an axis, with visible spaces and line ends."""
    return tokenizer.token_repr(id).replace(" ", "·")
