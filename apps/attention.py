"""Draw the attention weights of a trained model: `uv run apps/attention.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("attention")
