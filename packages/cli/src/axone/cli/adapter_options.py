"""Options of the commands that take a model, with an adapter or with int8 weights."""

import argparse
from pathlib import Path

from axone.cli.console import UserError
from axone.llm import ModelBundle, open_bundle


def add_adapter_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an adapter to a parser."""
    parser.add_argument("--adapter", type=Path, metavar="FOLDER", help="adapter to merge into the model")
    parser.add_argument(
        "--any-base",
        action="store_true",
        help="accept an adapter whose base has other numbers, such as another quantization of this model",
    )


def add_weights_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the format of the weights in memory to a parser."""
    parser.add_argument(
        "--weights",
        choices=("float32", "int8"),
        default="float32",
        help="format of the matrices in memory: int8 takes a quarter (default: float32)",
    )


def open_with_adapter(options: argparse.Namespace) -> ModelBundle:
    """Open the model of PATH, with the adapter of the options merged, or with weights of their format.

    Raises
    ------
    CheckpointError
        If the model or the adapter is damaged, or the adapter belongs to another base.
    UserError
        If there is no adapter for --any-base, or there is one and the weights are int8.
    """
    if options.any_base and options.adapter is None:
        raise UserError("--any-base needs --adapter")
    int8 = getattr(options, "weights", None) == "int8"  # export has no such option
    if int8 and options.adapter is not None:
        raise UserError("--weights int8 cannot be used with --adapter: write the merged model with axone export first")
    return open_bundle(
        options.path, adapter=options.adapter, any_base=options.any_base, weights="int8" if int8 else "float32"
    )
