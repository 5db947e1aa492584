"""Export a model for other programs: `uv run apps/export.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("export")
