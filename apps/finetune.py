"""Fine-tune a model on conversations: `uv run apps/finetune.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("finetune")
