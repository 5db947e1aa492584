"""Evaluate a model on a text: `uv run apps/evaluate.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("evaluate")
