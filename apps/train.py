"""Train a language model on a text, then sample from it: `uv run apps/train.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("train")
