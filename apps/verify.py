"""Compare a model with transformers: `uv run apps/verify.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("verify")
