"""Train a tokenizer on a text, or show how one cuts a text into tokens.

uv run apps/tokenize_text.py train notes.txt --vocab-size 4096 --out notes.json
uv run apps/tokenize_text.py show notes.json "Any text at all"
uv run apps/tokenize_text.py show notes.json --file chapter.txt --color always | less -R
"""

import argparse
import functools
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import console
from console import UserError, in_options

from axone.llm import Run, TextFiles, read_text
from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, load

COLORS = ("104", "102", "105", "106", "103", "101")  # light backgrounds, one after another


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    parser = argparse.ArgumentParser(
        prog="uv run apps/tokenize_text.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="train|show")

    train = commands.add_parser("train", help="train a tokenizer on a file or a folder of text files")
    train.add_argument("text", type=Path, metavar="TEXT", help="a file, or a folder of them")
    train.add_argument(
        "--out", type=Path, default=Path("tokenizer.json"), metavar="FILE", help="(default: %(default)s)"
    )
    train.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    train.add_argument("--characters", action="store_true", help="one token a character, nothing merged")
    train.add_argument("--vocab-size", type=int, default=8192, metavar="N", help="tokens (default: %(default)s)")
    train.add_argument(
        "--pattern", default="gpt2", metavar="P", help="gpt2, gpt4, none or a regular expression (default: %(default)s)"
    )
    train.add_argument(
        "--special", action="append", default=[], metavar="TOKEN", help="a special token; may be repeated"
    )

    show = commands.add_parser("show", help="show the tokens of a text, their ids, and how many bytes they save")
    show.add_argument(
        "tokenizer", type=Path, metavar="TOKENIZER", help="a tokenizer.json, a folder that holds one, or a run"
    )
    show.add_argument("text", nargs="?", metavar="TEXT", help="the text (default: standard input)")
    show.add_argument("--file", type=Path, metavar="FILE", help="a file that holds the text, or a folder")
    show.add_argument("--no-ids", action="store_true", help="only the tokens")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(default: on a terminal)")
    options = parser.parse_args(arguments)
    if options.command == "show" and options.text is not None and options.file is not None:
        parser.error("the text must come once: as TEXT or with --file")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train or show; return the exit code."""
    options = parse(arguments)
    try:
        return train(options) if options.command == "train" else show(options)
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(in_options(str(error), ["vocab-size"])) from error


def train(options: argparse.Namespace) -> int:
    """Train, save, and say what came out."""
    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out} is there already: choose another --out, or give --overwrite")
    texts = TextFiles(options.text)
    start = time.perf_counter()
    if options.characters:
        tokenizer: Tokenizer = CharTokenizer.train(texts)
    else:
        pattern = None if options.pattern == "none" else options.pattern
        progress = show_progress if sys.stderr.isatty() else None
        tokenizer = BPETokenizer.train(
            texts, options.vocab_size, pattern=pattern, special_tokens=options.special, progress=progress
        )
    seconds = time.perf_counter() - start
    with console.writing(options.out):
        tokenizer.save(options.out)
    print(f"{options.out}: {tokenizer.vocab_size:,} tokens, learned in {seconds:.1f} s")
    print(statistics((text, len(encode(tokenizer, text))) for text in texts))
    return console.SUCCESS


def show(options: argparse.Namespace) -> int:
    """Print a text as its tokens."""
    tokenizer = opened(options.tokenizer)
    text = read_text(options.file) if options.file is not None else given_text(options.text)
    special = tokenizer.special_tokens if isinstance(tokenizer, BPETokenizer) else {}
    ids = encode(tokenizer, text)
    spell = functools.cache(functools.partial(shown, tokenizer))
    paint = painter(options.color)
    end = ""
    for id in ids:
        token = spell(id)
        end = "\n" if token.endswith("\n") else ""
        print(paint(token.removesuffix("\n"), "" if options.no_ids else f"[{id}]", token in special), end=end)
    print(end="" if end else "\n")
    print(statistics([(text, len(ids))]))
    return console.SUCCESS


def opened(path: Path) -> Tokenizer:
    """Return the tokenizer of a file, of a folder that holds one, or of a run's best checkpoint."""
    run = Run(path)
    return load(run.best().path if run.checkpoints_path.is_dir() else path)


def given_text(argument: str | None) -> str:
    """Return the text that was given as an argument or comes on standard input, which are UTF-8 whatever the locale says."""
    data = sys.stdin.buffer.read() if argument is None else os.fsencode(argument)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"the text must be UTF-8, and is not at byte {error.start}: convert it first") from error


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text, in which special tokens are what they say."""
    return (
        tokenizer.encode(text, allowed_special="all") if isinstance(tokenizer, BPETokenizer) else tokenizer.encode(text)
    )


def shown(tokenizer: Tokenizer, id: int) -> str:
    """Return a token as printable text, with a line end after each visible line feed."""
    token = tokenizer.token_repr(id, encoding=sys.stdout.encoding or "utf-8")
    return re.sub(r"⏎|<U\+000A>", "\\g<0>\n", token)


def painter(color: str) -> Callable[[str, str, bool], str]:
    """Return what makes one piece of output of a token, its id, and whether it is special."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if color == "never" or (color == "auto" and plain):
        return lambda token, number, _: f"{token}{number or '|'}"
    backgrounds = itertools.cycle(COLORS)

    def paint(token: str, number: str, special: bool) -> str:
        style = "7;1" if special else f"30;{next(backgrounds)}"
        lines = "\n".join(f"\x1b[{style}m{line}\x1b[0m" if line else "" for line in token.split("\n"))
        return f"{lines}\x1b[2m{number}\x1b[0m" if number else lines

    return paint


def statistics(texts: Iterable[tuple[str, int]]) -> str:
    """Return how long texts are in tokens, given each with its number of them, and what a token stands for."""
    tokens = size = characters = 0
    for text, count in texts:
        tokens, size, characters = tokens + count, size + len(text.encode()), characters + len(text)
    each = f": {size / tokens:.2f} bytes, {characters / tokens:.2f} characters a token" if tokens else ""
    return f"{tokens:,} tokens of {size:,} bytes{each}"


def show_progress(done: int, total: int) -> None:
    """Print how far training is, over what was printed before."""
    print(f"\r{done:,} of {total:,} merges", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(console.run(main))
