"""Write text with a trained model: `uv run apps/sample.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("sample")
