"""Evaluate a model on a text: perplexity and bits per byte, with a sliding window.

  axone evaluate runs/NAME --data notes.txt
  axone evaluate SmolLM2-135M-Instruct.Q4_1.gguf --data notes.txt --max-tokens 20000

The table is written to standard output, the progress to standard error.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Self

import numpy as np

from axone.cli import console
from axone.cli.adapter_options import add_adapter_options, add_weights_option, open_with_adapter
from axone.cli.console import UserError, in_options
from axone.cli.invocation import CommandParser
from axone.cli.sampling_options import check_counts
from axone.cli.tokens import list_files
from axone.llm import TextFiles, bits_per_byte, sliding_loss

EPILOG = """A window gives each token at least window - stride tokens before it. A smaller stride gives a lower perplexity and takes
longer: compare models with the same window and stride. Bits per byte compare models of different vocabularies.

Exit status: 0 success, 2 an error to mend, 130 interrupted.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone evaluate PATH --data FILE [options]",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="run, model folder or .gguf file")
    add_adapter_options(parser)
    add_weights_option(parser)
    add("--data", type=Path, required=True, metavar="FILE", help="text file in UTF-8, or a folder of them")
    add("--window", type=int, metavar="N", help="tokens read at once (default: the model's context, at most 1024)")
    add("--stride", type=int, metavar="N", help="tokens by which the window moves on (default: half the window)")
    add("--max-tokens", type=int, metavar="N", help="number of tokens after which to stop (default: all)")
    options = parser.parse(arguments)
    check_counts(parser, options, "window", "stride", "max_tokens")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Open a model and a text and print a table; return the exit status."""
    options = parse(arguments)
    try:
        texts = TextFiles(options.data)
    except ValueError as error:
        raise UserError(str(error)) from error
    if options.data.is_dir():
        console.say("\n".join(list_files(texts)))
    text = "\n".join(texts)
    bundle = open_with_adapter(options)
    tokenizer = bundle.tokenizer
    begin = [tokenizer.bos_token_id] if tokenizer.add_bos_token and tokenizer.bos_token_id is not None else []
    try:
        ids = tokenizer.encode_to_array(text)[: options.max_tokens]
        tokens = np.concatenate([np.asarray(begin, ids.dtype), ids])
        with Progress(len(tokens) - 1) as progress:
            loss = sliding_loss(
                bundle.model, tokens, window=options.window, stride=options.stride, progress=progress.update
            )
    except ValueError as error:
        raise UserError(in_options(str(error), ("window", "stride"))) from error
    predicted = tokens if begin else tokens[1:]
    num_bytes = len(tokenizer.decode(predicted).encode("utf-8"))
    for name, value in (
        ("tokens", f"{len(tokens) - 1:,}"),
        ("bytes", f"{num_bytes:,}"),
        ("nats per token", f"{loss:.4f}"),
        ("perplexity", f"{math.exp(loss):.3f}"),
        ("bits per byte", f"{bits_per_byte(loss, len(tokens) - 1, num_bytes):.4f}"),
        ("tokens per second", f"{(len(tokens) - 1) / progress.seconds:,.0f}"),
    ):
        print(f"{name:18} {value:>12}")
    return console.SUCCESS


class Progress:
    """Progress in a terminal, and the seconds that it took."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begin = time.perf_counter()
        self._terminal = sys.stderr.isatty()
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        if self._terminal:
            console.say("")

    def update(self, done: int) -> None:
        """Show how many tokens were predicted."""
        if self._terminal:
            left = (time.perf_counter() - self._begin) * (self._total / done - 1)
            sys.stderr.write(f"\r{done:,} of {self._total:,} tokens, {left:.0f} s left   ")
            sys.stderr.flush()
