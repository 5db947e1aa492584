"""Command line of `axone finetune`: its options, and which of them exclude each other."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from axone.cli.invocation import CommandParser
from axone.cli.sampling_options import check_counts

DESCRIPTION = """Fine-tune a model on your own conversations, on this computer alone.

  axone finetune MODEL.gguf --data chats.jsonl --show-mask    see what is learned, and end
  axone finetune MODEL.gguf --data chats.jsonl                a few minutes
  axone finetune MODEL.gguf --data chats.jsonl --preset evening --keep notes.txt
  axone finetune --resume RUN                                 continue an interrupted fine-tuning
  axone chat RUN                                              chat with the result
  axone export MODEL.gguf --adapter RUN/adapter --to tuned.gguf

The model is a .gguf file, a model folder or a run. The data has a JSON object per line, of one of three shapes:

  {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
  {"prompt": "...", "completion": "..."}
  {"text": "..."}

or is a folder of text files. Of conversations, the assistant's texts and the ends of its turns are learned; of texts,
everything. axone chat writes such a file with /save.
"""

EPILOG = """Choosing options. An adapter adds a product of two small matrices to each linear layer, and leaves the model as it is.
--rank is the width of these matrices: 8 to 32 is enough for a style or a form, more for new knowledge. --alpha is the
strength of the adapter: its product is multiplied by alpha / rank; twice the rank is usual. The learning rate of an adapter
is about ten times that of --full. If the held-out loss rises, use fewer epochs, a lower rank or more data; if it hardly
falls, use more epochs or a higher learning rate. --keep measures whether the model forgets: the perplexity of a plain
text should rise by a few percent at most.

presets:
  minutes       rank 16, 2 epochs, but at least 60 steps and at most 200 (default)
  evening       rank 32, 3 epochs, but at least 120 steps

Some dozens of conversations are seen several times in the least number of steps. The adapter of the lowest held-out loss is
kept.

The folder of a run holds its options, metrics, data, checkpoints and the adapter, which PEFT opens. Ctrl-C finishes the step,
saves it, and prints the command that continues the run.

Exit status: 0 success, 2 an error to mend, 130 interrupted, 143 terminated.
"""

NAMES = (
    "rank", "alpha", "dropout", "targets", "steps", "batch-size", "learning-rate", "context-length", "eval-every",
    "early-stopping-patience", "workers", "seed", "validation", "last-blocks", "epochs",
)  # fmt: skip


@dataclass(frozen=True)
class FineTuningPreset:
    """Options that a preset sets.

    Attributes
    ----------
    rank, epochs, least_steps : int
    most_steps : int or None
    """

    rank: int
    epochs: int
    least_steps: int
    most_steps: int | None


PRESETS = {"minutes": FineTuningPreset(16, 2, 60, 200), "evening": FineTuningPreset(32, 3, 120, None)}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line; exit with status 2 if its options contradict each other."""
    parser = CommandParser(
        usage="axone finetune PATH --data FILE [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", nargs="?", help="model to fine-tune: .gguf file, model folder or run")
    add("--data", type=Path, metavar="FILE", help="conversations, or a folder of texts")
    add("--keep", type=Path, metavar="FILE", help="plain text: perplexity of its first 8,000 tokens before and after")
    add(
        "--show-mask",
        action="store_true",
        help="print the first conversation with the learned tokens in colour, and end",
    )
    add("--preset", choices=tuple(PRESETS), default="minutes", help="rank and duration, see below (default: minutes)")
    add("--validation", type=float, default=0.1, metavar="X", help="fraction of conversations held out (default: 0.1)")
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, metavar="RUN", help="folder of the run (default: a new folder in runs/)")
    run.add_argument("--overwrite", action="store_true", help="replace an existing run")
    run.add_argument(
        "--resume", type=Path, metavar="RUN", help="run to continue, also longer than planned with --steps N"
    )
    add = parser.add_argument_group("adapter").add_argument
    add("--rank", type=int, metavar="N", help="rank of the adapter (default: 16)")
    add("--alpha", type=float, metavar="X", help="strength of the adapter (default: twice the rank)")
    add("--dropout", type=float, metavar="X", help="dropout probability of the adapter's input (default: 0)")
    add("--targets", metavar="NAMES", help="layers to adapt, separated by commas (default: all-linear)")
    add("--rslora", action="store_true", help="scale of alpha / sqrt(rank), for large ranks")
    add("--full", action="store_true", help="train all weights instead of an adapter")
    add("--last-blocks", type=int, metavar="N", help="train the last N blocks instead of an adapter")
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=int, metavar="N", help="passes over the conversations (default: see presets)")
    add("--steps", type=int, metavar="N", help="number of updates, instead of --epochs")
    add("--batch-size", type=int, default=8, metavar="N", help="conversations per step (default: 8)")
    add("--learning-rate", type=float, metavar="X", help="peak learning rate (default: 5e-4, without an adapter 5e-5)")
    add(
        "--context-length",
        type=int,
        metavar="N",
        help="most tokens of a conversation (default: the model's, at most 1024)",
    )
    add("--eval-every", type=int, metavar="N", help="steps between evaluations, each followed by a checkpoint")
    add(
        "--early-stopping-patience", type=int, metavar="N", help="evaluations without improvement before training stops"
    )
    add("--workers", type=int, metavar="N", help="threads or processes (default: one per core)")
    add("--seed", type=int, default=0, metavar="N", help="seed of adapter, batches and dropout (default: 0)")
    add("--shard-optimizer", action="store_true", help="a shard of the optimizer's state in each rank")
    given = parser.parse(arguments)
    _check(parser, given)
    return given


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    changed = [name for name, value in vars(given).items() if value != parser.get_default(name)]
    if given.resume is not None:
        if not set(changed) <= {"resume", "steps"}:
            parser.error("--resume reads all options but --steps from the run: leave out the others")
        return
    if given.path is None or given.data is None:
        parser.error("PATH and --data are required: name a model and a file of conversations")
    ways = [name for name in ("full", "last_blocks") if name in changed]
    adapter = [name for name in ("rank", "alpha", "dropout", "targets", "rslora") if name in changed]
    if len(ways) > 1 or (ways and adapter):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in ways + adapter)
        parser.error(f"{named} exclude each other: train an adapter, all weights, or the last blocks")
    if given.steps is not None and given.epochs is not None:
        parser.error("--steps and --epochs exclude each other")
    check_counts(parser, given, "batch_size", "last_blocks", "epochs", "context_length")
