"""Evaluate a model on a text: `uv run apps/evaluate.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("evaluate")
