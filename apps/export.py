"""Export a model for other programs: `uv run apps/export.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("export")
