"""Sampling options, as sample.py and chat.py have them."""

import argparse
from dataclasses import fields
from typing import Literal

from axone.llm import Draft, ModelBundle, SamplingConfig, training_tokens

NAMES = [*(field.name for field in fields(SamplingConfig)), "stop", "max_new_tokens"]


def add_sampling_options(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    """Add the sampling options to a parser."""
    add = parser.add_argument
    add(
        "--temperature",
        type=float,
        default=temperature,
        metavar="T",
        help=f"sampling temperature, 0 for greedy (default: {temperature})",
    )
    add("--top-k", type=int, metavar="K", help="number of most probable tokens to sample from")
    add("--top-p", type=float, metavar="P", help="total probability of the most probable tokens to sample from")
    add("--min-p", type=float, metavar="P", help="minimum probability relative to the most probable token")
    add(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="R",
        help="penalty of earlier tokens (default: 1, none)",
    )
    add("--seed", type=int, metavar="N", help="random seed (default: a new one each time)")


def add_draft_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for a draft to a parser."""
    parser.add_argument(
        "--draft",
        choices=["prompt", "corpus"],
        help="guesses that are verified together, for speed; the text stays the same: from matches in the text so far, or "
        "from the token file of a run",
    )


def draft(options: argparse.Namespace, bundle: ModelBundle) -> Draft | Literal["prompt"] | None:
    """Return the draft that the options name.

    Raises
    ------
    CheckpointError
        If there is no token file.
    """
    if options.draft == "corpus":
        return Draft(training_tokens(options.path, bundle.tokenizer))
    return "prompt" if options.draft == "prompt" else None


def check_counts(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """Refuse counts below 1 and a negative seed."""
    for name in names:
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} ({getattr(options, name)}) must be at least 1")
    if getattr(options, "seed", None) is not None and options.seed < 0:
        parser.error(f"--seed ({options.seed}) must not be negative")


def sampling(options: argparse.Namespace) -> SamplingConfig:
    """Return the sampling options.

    Raises
    ------
    ValueError
        If an option is out of range.
    """
    return SamplingConfig(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
    )
