"""Train a language model on a text, then sample from it: `uv run apps/train.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("train")
