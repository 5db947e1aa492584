"""Compare a model with transformers: `uv run apps/verify.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("verify")
