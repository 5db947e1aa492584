"""Write text with a trained model: `uv run apps/sample.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("sample")
