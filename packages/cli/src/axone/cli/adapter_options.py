"""Options of the commands that take a model with an adapter."""

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


def open_with_adapter(options: argparse.Namespace) -> ModelBundle:
    """Open the model of PATH, with the adapter of the options merged.

    Raises
    ------
    CheckpointError
        If the model or the adapter is damaged, or the adapter belongs to another base.
    UserError
        If there is no adapter for --any-base.
    """
    if options.any_base and options.adapter is None:
        raise UserError("--any-base needs --adapter")
    return open_bundle(options.path, adapter=options.adapter, any_base=options.any_base)
