"""Fine-tune a model on conversations: `uv run apps/finetune.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("finetune")
