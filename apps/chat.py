"""Chat with a model: `uv run apps/chat.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("chat")
