"""Write text with a model: the best checkpoint of a run, a model folder, or a GGUF file.

  axone sample runs/NAME                            ask for prompts, in a terminal
  axone sample runs/NAME --prompt "def "            continue a prompt
  axone sample runs/NAME --prompt - < letter.txt    continue a file
  axone sample runs/NAME --prompt "Once" --temperature 0.5 --max-new-tokens 1000 > story.txt
  axone sample runs/NAME --prompt A --prompt B --samples 3 --json

The text is written to standard output, everything else to standard error.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from axone.cli import console
from axone.cli.adapter_options import add_adapter_options, add_weights_option, open_with_adapter
from axone.cli.console import UserError, in_options
from axone.cli.invocation import CommandParser
from axone.cli.sampling_options import NAMES, add_draft_option, add_sampling_options, check_counts, draft, sampling
from axone.llm import Run, TextGenerator

EPILOG = """Choosing options: a temperature below 1 prefers probable tokens, one above 1 makes the text more varied. --top-p 0.9 or
--min-p 0.05 exclude improbable tokens, so that the temperature can be higher. --repetition-penalty 1.1 helps if a text
repeats itself.

Without --prompt, in a terminal, prompts are read one by one: the arrow keys recall earlier prompts, Enter alone continues
the last text, Ctrl-C stops a text, Ctrl-D exits. Elsewhere the prompt of the run's own samples is used.

Exit status: 0 success, 2 an error to mend, 130 interrupted.
"""
HELP = """Type the beginning of a text; the model continues it.
Enter alone: continue the last text. Ctrl-C: stop a text. Ctrl-D: exit."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone sample PATH [options]",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="run, model folder or .gguf file")
    add_adapter_options(parser)
    add_weights_option(parser)
    add("--prompt", action="append", metavar="TEXT", help="text to continue, - for standard input; may be repeated")
    add("--samples", type=int, default=1, metavar="N", help="number of texts per prompt (default: 1)")
    add("--max-new-tokens", type=int, default=500, metavar="N", help="maximum number of new tokens (default: 500)")
    add("--stop", action="append", default=[], metavar="TEXT", help="text before which to stop; may be repeated")
    add_sampling_options(parser, temperature=0.8)
    add_draft_option(parser)
    add(
        "--json",
        action="store_true",
        help="JSON output: prompt, text, token ids and log-probabilities, one text per line",
    )
    options = parser.parse(arguments)
    check_counts(parser, options, "samples", "max_new_tokens")
    if options.draft and (options.samples > 1 or options.json or len(options.prompt or []) > 1):
        parser.error("--draft is for one text at a time: leave out --samples, --json and further prompts")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Load a model and write text; return the exit status."""
    options = parse(arguments)
    try:
        sampling(options)
        bundle = open_with_adapter(options)
        generator = TextGenerator(bundle.model, bundle.tokenizer)
        options.draft = draft(options, bundle)
        single = options.samples == 1 and not options.json
        if options.prompt is None and single and sys.stdin.isatty() and sys.stdout.isatty():
            return converse(generator, options)
        prompts = given_prompts(options)
        if single and len(prompts) == 1:
            write(generator, prompts[0], options)
        else:
            write_several(generator, [prompt for prompt in prompts for _ in range(options.samples)], options)
    except ValueError as error:  # an option that the library refuses
        raise UserError(in_options(str(error), NAMES)) from error
    return console.SUCCESS


def given_prompts(options: argparse.Namespace) -> list[str]:
    """Return the prompts; ``-`` stands for standard input without its last line end."""
    if options.prompt is None:
        prompt = Run(options.path).prompt
        console.report("note", f"the prompt is {prompt!r}: choose another one with --prompt")
        return [prompt]
    return [read_text(sys.stdin.read).removesuffix("\n") if prompt == "-" else prompt for prompt in options.prompt]


def read_text(read: Callable[[], str]) -> str:
    """Return the text that a function reads from standard input."""
    try:
        return read()
    except UnicodeDecodeError as error:
        raise UserError(
            f"standard input is not valid {error.encoding}, the encoding of the terminal: set PYTHONIOENCODING=utf-8"
        ) from error


def write(generator: TextGenerator, prompt: str, options: argparse.Namespace) -> None:
    """Write a prompt and its continuation while it is generated."""
    pieces = stream(generator, prompt, options, np.random.default_rng(options.seed))
    first = next(pieces, "")  # before the prompt is written, so that a refused prompt leaves no output
    print(prompt.lstrip("\n") + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print(flush=True)


def stream(
    generator: TextGenerator, prompt: str, options: argparse.Namespace, rng: np.random.Generator
) -> Iterator[str]:
    """Return the pieces of a prompt's continuation."""
    return generator.stream(
        prompt,
        max_new_tokens=options.max_new_tokens,
        stop=options.stop,
        rng=rng,
        sampling=sampling(options),
        draft=options.draft,
    )


def write_several(generator: TextGenerator, prompts: list[str], options: argparse.Namespace) -> None:
    """Write the continuations of prompts, generated in one batch, as text or as JSON."""
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
    """Read prompts and write their continuations until the input ends; return the exit status."""
    with contextlib.suppress(ImportError):  # line editing and history; Windows has its own
        import readline  # noqa: F401
    print(HELP, file=sys.stderr)
    rng = np.random.default_rng(options.seed)
    text = ""
    while True:
        try:
            prompt = read_text(lambda: input("> "))
        except UserError as error:
            print(error, file=sys.stderr)
            continue
        except KeyboardInterrupt:
            print("\n(Ctrl-D exits)", file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return console.SUCCESS
        continuing = bool(text) and not prompt
        begin = text if continuing else prompt or Run(options.path).prompt
        try:
            pieces = stream(generator, begin, options, rng)
            first = next(pieces, "")
            text = begin + first
            print(first if continuing else text.lstrip("\n"), end="", flush=True)
            for piece in pieces:
                text += piece
                print(piece, end="", flush=True)
            print(flush=True)
        except KeyboardInterrupt:
            print(flush=True)
        except ValueError as error:  # a character that the tokenizer lacks: read another prompt
            print(in_options(str(error), NAMES), file=sys.stderr)
