"""Chat with a model: `uv run apps/chat.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("chat")
