"""Train a tokenizer on a text, or show the tokens of a text: `uv run apps/tokenize_text.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("tokenize")
