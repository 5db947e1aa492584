"""Draw the attention weights of a trained model: `uv run apps/attention.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("attention")
