"""Train a tokenizer on a text, or show the tokens of a text: `uv run apps/tokenize_text.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("tokenize_text")
