"""Write text with a model that was trained: a run's best checkpoint, or any model folder.

  uv run apps/sample.py runs/NAME                            asks for prompts, in a terminal
  uv run apps/sample.py runs/NAME --prompt "def "            goes on from a prompt
  uv run apps/sample.py runs/NAME --prompt - < letter.txt    goes on from a file
  uv run apps/sample.py runs/NAME --prompt "Once" --temperature 0.5 --max-new-tokens 1000 > story.txt
  uv run apps/sample.py runs/NAME --prompt A --prompt B --samples 3 --json

The text goes to standard output, all else to standard error.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import console
from console import UserError, in_options

import numpy as np

from axone.llm import CheckpointError, Run, SamplingConfig, TextGenerator, load

EPILOG = """How to choose: a temperature below 1 keeps to what is probable, above 1 it becomes bold. --top-p 0.9 or --min-p 0.05
leave out what is improbable, and let the temperature be higher. Where a text goes in circles, --repetition-penalty 1.1.

Without --prompt, in a terminal, it asks for prompts: arrow keys bring back earlier ones, Enter alone goes on with the
last text, Ctrl-C stops a text, Ctrl-D leaves. Elsewhere it goes on from the prompt that the run's own samples had.

Exit status: 0 done, 2 something to put right, 130 interrupted.
"""
HELP = """Write how a text begins, and the model goes on.
Enter alone: more of the same. Ctrl-C: stop a text. Ctrl-D: leave."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    parser = argparse.ArgumentParser(
        prog="sample.py",
        usage="uv run apps/sample.py FOLDER [options]",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=27),
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="a run, or a model folder")
    add("--prompt", action="append", metavar="TEXT", help="what to go on from, - for standard input; may be repeated")
    add("--samples", type=int, default=1, metavar="N", help="texts for each prompt (default: 1)")
    add("--max-new-tokens", type=int, default=500, metavar="N", help="how much to write (default: 500)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated")
    add("--temperature", type=float, default=0.8, metavar="T", help="0 always takes the most probable (default: 0.8)")
    add("--top-k", type=int, metavar="K", help="draw from the K most probable tokens only")
    add("--top-p", type=float, metavar="P", help="draw from the fewest tokens that make up the probability P")
    add("--min-p", type=float, metavar="P", help="draw from those at least P times as probable as the first")
    add("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: repeat less (default: 1)")
    add("--seed", type=int, metavar="N", help="the same text every time (default: another each time)")
    add("--json", action="store_true", help="a JSON object a line: prompt, text, token ids and their log-probabilities")
    options = parser.parse_args(arguments)
    for name in ("samples", "max_new_tokens"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, and is {getattr(options, name)}")
    if options.seed is not None and options.seed < 0:
        parser.error(f"--seed must not be negative, and is {options.seed}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Load and write; return the exit code."""
    options = parse(arguments)
    try:
        sampling(options)
        generator = TextGenerator(*load(options.folder))
        alone = options.samples == 1 and not options.json
        if options.prompt is None and alone and sys.stdin.isatty() and sys.stdout.isatty():
            return converse(generator, options)
        prompts = wanted_prompts(options)
        if alone and len(prompts) == 1:
            write(generator, prompts[0], options)
        else:
            write_several(generator, [prompt for prompt in prompts for _ in range(options.samples)], options)
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(in_options(str(error), [*(field.name for field in fields(SamplingConfig)), "stop"])) from error
    return console.SUCCESS


def sampling(options: argparse.Namespace) -> SamplingConfig:
    """Return the sampling options.

    Raises
    ------
    ValueError
        If an option is out of its range.
    """
    return SamplingConfig(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
    )


def wanted_prompts(options: argparse.Namespace) -> list[str]:
    """Return what to go on from; ``-`` stands for standard input without its last line end."""
    if options.prompt is None:
        prompt = usual_prompt(options.folder)
        console.say("note", f"going on from {prompt!r}: another may be given with --prompt")
        return [prompt]
    return [typed(sys.stdin.read).removesuffix("\n") if prompt == "-" else prompt for prompt in options.prompt]


def typed(read: Callable[[], str]) -> str:
    """Return what a function reads from standard input."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise UserError(
            f"what is read must be {error.encoding}, as the terminal says, and it is not: set PYTHONIOENCODING=utf-8"
        ) from error


def usual_prompt(folder: Path) -> str:
    """Return what the samples of a run went on from; a new line for any other model."""
    try:
        return str(Run(folder).options().get("prompt") or "\n")
    except CheckpointError:
        return "\n"


def write(generator: TextGenerator, prompt: str, options: argparse.Namespace) -> None:
    """Write a prompt and what follows it, as it comes."""
    pieces = streamed(generator, prompt, options, np.random.default_rng(options.seed))
    first = next(pieces, "")  # before anything is written, so that what is refused leaves nothing
    print(prompt.lstrip("\n") + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print(flush=True)


def streamed(
    generator: TextGenerator, prompt: str, options: argparse.Namespace, rng: np.random.Generator
) -> Iterator[str]:
    """Return the pieces of what follows a prompt."""
    return generator.stream(
        prompt, max_new_tokens=options.max_new_tokens, stop=options.stop, rng=rng, sampling=sampling(options)
    )


def write_several(generator: TextGenerator, prompts: list[str], options: argparse.Namespace) -> None:
    """Write what follows each prompt, as text or as JSON; they are generated together."""
    rngs = [np.random.default_rng(None if options.seed is None else options.seed + i) for i in range(len(prompts))]
    completions = generator.complete(
        prompts, max_new_tokens=options.max_new_tokens, stop=options.stop, rngs=rngs, sampling=sampling(options)
    )
    for number, (prompt, completion) in enumerate(zip(prompts, completions), 1):
        if options.json:
            print(json.dumps({"prompt": prompt, **asdict(completion)}))
        else:
            print(f"--- {number} of {len(prompts)} ---", file=sys.stderr, flush=True)
            print(prompt.lstrip("\n") + completion.text, flush=True)


def converse(generator: TextGenerator, options: argparse.Namespace) -> int:
    """Ask for prompts and write what follows each, until the input ends; return the exit code."""
    with contextlib.suppress(ImportError):  # lines can then be edited and brought back; Windows has its own
        import readline  # noqa: F401
    print(HELP, file=sys.stderr)
    rng = np.random.default_rng(options.seed)
    text = ""
    while True:
        try:
            prompt = typed(lambda: input("> "))
        except UserError as error:
            print(error, file=sys.stderr)
            continue
        except KeyboardInterrupt:
            print("\n(Ctrl-D leaves)", file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return console.SUCCESS
        going_on = bool(text) and not prompt
        begin = text if going_on else prompt or usual_prompt(options.folder)
        try:
            pieces = streamed(generator, begin, options, rng)
            first = next(pieces, "")
            text = begin + first
            print(first if going_on else text.lstrip("\n"), end="", flush=True)
            for piece in pieces:
                text += piece
                print(piece, end="", flush=True)
            print(flush=True)
        except KeyboardInterrupt:
            print(flush=True)
        except ValueError as error:  # a character that the model does not know: ask again
            print(error, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(console.run(main))
