"""Train a tokenizer on a text, or show the tokens of a text.

axone tokenize train notes.txt --vocab-size 4096 --out notes.json
axone tokenize show notes.json "Any text at all"
axone tokenize show notes.json --file chapter.txt --color always | less -R
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

from axone.cli import console
from axone.cli.console import UserError, in_options
from axone.cli.invocation import CommandParser, as_called
from axone.cli.tokens import list_files
from axone.llm import Run, TextFiles, read_text
from axone.tokenizer import BPETokenizer, CharTokenizer, SubwordTokenizer, Tokenizer, load

COLORS = ("104", "102", "105", "106", "103", "101")  # light backgrounds, in turn


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(usage="axone tokenize train|show [options]", description=__doc__)
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="train|show",
        prog=as_called("axone tokenize"),
        parser_class=argparse.ArgumentParser,
    )

    train = commands.add_parser("train", help="train a tokenizer on a file or a folder of text files")
    add = train.add_argument
    add("text", type=Path, metavar="TEXT", help="text file, or folder of text files")
    add("--out", type=Path, default=Path("tokenizer.json"), metavar="FILE", help="output file (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--characters", action="store_true", help="a vocabulary of characters instead of subwords")
    add("--vocab-size", type=int, default=8192, metavar="N", help="vocabulary size (default: %(default)s)")
    add(
        "--pattern", default="gpt2", metavar="P", help="gpt2, gpt4, none or a regular expression (default: %(default)s)"
    )
    add("--special", action="append", default=[], metavar="TOKEN", help="special token; may be repeated")

    show = commands.add_parser("show", help="show the tokens of a text, their ids, and the bytes per token")
    add = show.add_argument
    add("tokenizer", type=Path, metavar="TOKENIZER", help="tokenizer.json, folder that holds one, or run")
    add("text", nargs="?", metavar="TEXT", help="text (default: standard input)")
    add("--file", type=Path, metavar="FILE", help="text file, or folder of text files")
    add("--no-ids", action="store_true", help="tokens without ids")
    add("--color", choices=("auto", "always", "never"), default="auto", help="colored output (default: on a terminal)")
    options = parser.parse(arguments)
    if options.command == "show" and options.text is not None and options.file is not None:
        parser.error("TEXT and --file exclude each other: leave out one of them")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train a tokenizer or show tokens; return the exit status."""
    options = parse(arguments)
    try:
        return train(options) if options.command == "train" else show(options)
    except ValueError as error:  # an option that the library refuses
        raise UserError(in_options(str(error), ["vocab-size"])) from error


def train(options: argparse.Namespace) -> int:
    """Train and save a tokenizer, and print statistics of the text."""
    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out} exists: choose another --out, or give --overwrite")
    texts = TextFiles(options.text)
    if options.text.is_dir():
        print("\n".join(list_files(texts)), file=sys.stderr)
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
    print(f"{options.out}: {tokenizer.vocab_size:,} tokens, trained in {seconds:.1f} s")
    print(statistics((text, len(encode(tokenizer, text))) for text in texts))
    return console.SUCCESS


def show(options: argparse.Namespace) -> int:
    """Print the tokens of a text."""
    tokenizer = open_tokenizer(options.tokenizer)
    text = read_text(options.file) if options.file is not None else given_text(options.text)
    special = tokenizer.special_tokens if isinstance(tokenizer, SubwordTokenizer) else {}
    ids = encode(tokenizer, text)
    spell = functools.cache(functools.partial(printable, tokenizer))
    paint = painter(options.color)
    end = ""
    for id in ids:
        token = spell(id)
        end = "\n" if token.endswith("\n") else ""
        print(paint(token.removesuffix("\n"), "" if options.no_ids else f"[{id}]", token in special), end=end)
    print(end="" if end else "\n")
    print(statistics([(text, len(ids))]))
    return console.SUCCESS


def open_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a file, of a folder, or of a run's best checkpoint."""
    run = Run(path)
    return load(run.best().path if run.checkpoints_path.is_dir() else path)


def given_text(argument: str | None) -> str:
    """Return the text of the argument or of standard input, decoded as UTF-8 in every locale."""
    data = sys.stdin.buffer.read() if argument is None else os.fsencode(argument)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"the text is not valid UTF-8 (first bad byte at {error.start}): convert it first") from error


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text, with its special tokens."""
    return (
        tokenizer.encode(text, allowed_special="all")
        if isinstance(tokenizer, SubwordTokenizer)
        else tokenizer.encode(text)
    )


def printable(tokenizer: Tokenizer, id: int) -> str:
    """Return a token as printable text, with a line end after each visible line feed."""
    token = tokenizer.token_repr(id, encoding=sys.stdout.encoding or "utf-8")
    return re.sub(r"⏎|<U\+000A>", "\\g<0>\n", token)


def painter(color: str) -> Callable[[str, str, bool], str]:
    """Return a function from a token, its id and whether it is special to a piece of output."""
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
    """Return the numbers of tokens and bytes of texts, and their ratio, from each text and its number of tokens."""
    tokens = size = characters = 0
    for text, count in texts:
        tokens, size, characters = tokens + count, size + len(text.encode()), characters + len(text)
    each = f": {size / tokens:.2f} bytes, {characters / tokens:.2f} characters per token" if tokens else ""
    return f"{tokens:,} tokens of {size:,} bytes{each}"


def show_progress(done: int, total: int) -> None:
    """Print the number of merges in place of the last one."""
    print(f"\r{done:,} of {total:,} merges", end="\n" if done == total else "", file=sys.stderr, flush=True)
