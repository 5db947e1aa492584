"""The command line of train.py: what it can be told, and what belongs together."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from axone.llm import PRESETS, LanguageModelConfig, Preset, TrainerConfig, preset

DESCRIPTION = """Train a language model on a text, then sample from it.

  uv run apps/train.py                            on Python's own standard library: two minutes
  uv run apps/train.py --data shakespeare         on a megabyte of Shakespeare, downloaded once
  uv run apps/train.py --data notes.txt           on a text of your own, or a folder of texts
  uv run apps/train.py --data notes --tokenizer bpe --vocab-size 2048 --preset medium
  uv run apps/train.py --resume runs/NAME         goes on with a run that was interrupted
  uv run apps/sample.py runs/NAME                 writes with what was trained

Before it begins, it says how large the model is, what it reads, and how long it will take.
"""

EPILOG = """presets:
{presets}

How to choose: the tokens that the model sees in a step are batch size times context length. A larger model wants more
text, more steps and a lower learning rate; if the loss on held-out text rises while that of training falls, it wants
more text, more dropout or fewer steps (--early-stopping-patience N stops by itself). Characters do for a few megabytes; for more, or for
languages with many characters, learn a vocabulary with --tokenizer bpe. "Bits a byte" compare across tokenizers.

A run's folder holds its options, metrics, loss plot, tokens and checkpoints. Ctrl-C finishes the step, saves, and says
how to go on; a run that was killed goes on from its last checkpoint in the same way.

Exit status: 0 done, 2 something to put right, 130 interrupted, 143 terminated.
"""

Kind: TypeAlias = Callable[[str], Any] | tuple[str, ...]
"""What an option takes: a number of some kind, or one of some words."""

MODEL: dict[str, tuple[Kind, str]] = {
    "context-length": (int, "tokens that the model sees at once"),
    "num-layers": (int, "blocks, one after the other"),
    "num-heads": (int, "attention heads in each block"),
    "num-kv-heads": (int, "key and value heads, shared by the others (default: as many)"),
    "embed-dim": (int, "channels: the width of the model"),
    "hidden-dim": (int, "channels inside the feed-forward layers (default: about 4 times the width)"),
    "dropout": (float, "share of activations dropped in training"),
    "norm": (("layer", "rms"), "how the stream is normalized (default: layer)"),
    "position": (("learned", "rotary"), "how the model knows where a token stands (default: learned)"),
    "mlp": (("gelu", "swiglu", "relu2"), "the feed-forward layers (default: gelu)"),
}
TRAINING: dict[str, tuple[Kind, str]] = {
    "steps": (int, "updates to make"),
    "batch-size": (int, "windows of text in a batch"),
    "gradient-accumulation-steps": (
        int,
        "batches per step, where one that large would not fit into memory (default: 1)",
    ),
    "sampling": (("random", "epoch"), "random sequences (default), or every sequence once per epoch"),
    "optimizer": (("adamw", "muon", "sgd"), "how weights are updated (default: adamw)"),
    "learning-rate": (float, "the highest"),
    "min-learning-rate": (float, "the last (default: a tenth of the highest)"),
    "muon-learning-rate": (float, "the highest of the matrices that muon takes (default: 0.02)"),
    "schedule": (("cosine", "linear", "constant"), "how the learning rate falls (default: cosine)"),
    "warmup-steps": (int, "over how many steps it rises at first (default: 100, or a tenth)"),
    "weight-decay": (float, "how much weights shrink (default: 0.1)"),
    "max-grad-norm": (float, "maximum norm of the gradient (default: 1)"),
    "eval-every": (int, "steps between looks at the held-out text, each followed by a checkpoint"),
    "save-every": (int, "steps between more checkpoints"),
    "early-stopping-patience": (int, "evaluations without improvement before training stops (default: no limit)"),
    "workers": (int, "threads (default: one for each core)"),
    "seed": (int, "of first weights, batches and dropout (default: 0)"),
}
NAMES = [*MODEL, *TRAINING, "vocab-size"]
OF_THE_FOLDER = {field.name for field in fields(LanguageModelConfig)} - {"context_length", "vocab_size"} | {"tokenizer"}


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes
    ----------
    data : str
        "python", "shakespeare" or a path.
    tokenizer : {"char", "bpe"}
    vocab_size : int
        For BPE.
    preset_name : str
    plan : Preset
        The preset with the user's changes of the model.
    training : dict
        The user's changes of the training.
    context_length : int or None
        If the user gave it.
    validation : float
        The share of the text that is held out.
    split : {"token", "document"}
    out, init, resume : Path or None
    overwrite, tensorboard : bool
    """

    data: str
    tokenizer: Literal["char", "bpe"]
    vocab_size: int
    preset_name: str
    plan: Preset
    training: dict[str, Any]
    context_length: int | None
    validation: float
    split: Literal["token", "document"]
    out: Path | None
    init: Path | None
    resume: Path | None
    overwrite: bool
    tensorboard: bool


def parse(arguments: list[str] | None) -> Options:
    """Return what a command line asks for; one that cannot be meant ends the program.

    Raises
    ------
    ValueError
        If there is no such preset, or a number is out of its range.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    changes = {name: value for name, value in vars(given).items() if value is not None and value is not False}
    if given.resume is not None and set(changes) != {"resume"}:
        parser.error("--resume takes everything from the run: give it without other options")
    if given.vocab_size is not None and given.tokenizer != "bpe":
        parser.error("--vocab-size is for --tokenizer bpe: characters are as many as the text has")
    if given.init is not None and OF_THE_FOLDER & set(changes):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(OF_THE_FOLDER & set(changes)))
        parser.error(f"--init takes model and tokenizer from its folder: leave out {named}")
    if given.data == "":
        parser.error("--data must name python, shakespeare, a file or a folder, and is empty")
    name = "default" if given.preset is None else given.preset
    plan = preset(name)
    model = {field.name: changes[field.name] for field in fields(LanguageModelConfig) if field.name in changes}
    training = {field.name: changes[field.name] for field in fields(TrainerConfig) if field.name in changes}
    model.pop("vocab_size", None)
    training.pop("context_length", None)
    return Options(
        data="python" if given.data is None else given.data,
        tokenizer=given.tokenizer or "char",
        vocab_size=4096 if given.vocab_size is None else given.vocab_size,
        preset_name=name,
        plan=Preset(plan.summary, {**plan.model, **model}, plan.trainer),
        training=training,
        context_length=given.context_length,
        validation=0.1 if given.validation is None else given.validation,
        split=given.split or "token",
        out=given.out,
        init=given.init,
        resume=given.resume,
        overwrite=given.overwrite,
        tensorboard=given.tensorboard,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py",
        usage="uv run apps/train.py [options]",
        description=DESCRIPTION,
        epilog=EPILOG.format(presets="\n".join(f"  {name:14}{_summary(preset)}" for name, preset in PRESETS.items())),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=27),
    )
    add = parser.add_argument
    add("--preset", metavar="NAME", help="model and training together, see below (default: default)")
    text = parser.add_argument_group("text")
    add = text.add_argument
    add("--data", metavar="WHAT", help="python (default), shakespeare, a text file, or a folder of them")
    add("--tokenizer", choices=("char", "bpe"), help="characters (default), or pieces of words learned from the text")
    add("--vocab-size", type=int, metavar="N", help="how many tokens bpe has (default: 4096)")
    add("--validation", type=float, metavar="SHARE", help="how much of the text is held out, at its end (default: 0.1)")
    add("--split", choices=("token", "document"), help="where it is cut: anywhere (default), or between two files")
    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--out", type=Path, metavar="RUN", help="the run's folder (default: a new one in runs/)")
    add("--overwrite", action="store_true", help="replace a run that is there already")
    add("--init", type=Path, metavar="FOLDER", help="start from the weights of a run or a model folder")
    add("--resume", type=Path, metavar="RUN", help="go on with a run; takes no other option")
    add("--tensorboard", action="store_true", help="also write RUN/tensorboard, for TensorBoard to show")
    for title, options in (("model", MODEL), ("training", TRAINING)):
        group = parser.add_argument_group(f"{title} (the preset's where no default is given)")
        for name, (kind, help_) in options.items():
            if isinstance(kind, tuple):
                group.add_argument(f"--{name}", choices=kind, help=help_)
            else:
                group.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=help_)
        if title == "model":
            group.add_argument("--qk-norm", action="store_true", help="normalize queries and keys")
    return parser


def _summary(preset: Preset) -> str:
    """Return what a preset is for, and its figures."""
    model, training = preset.model, preset.trainer
    return (
        f"{preset.summary}\n{'':16}{model['num_layers']} layers of {model['num_heads']} heads, "
        f"{model['embed_dim']} channels, context {model['context_length']}; {training['steps']:,} steps of "
        f"{training['batch_size']} windows, learning rate {training['learning_rate']:g}"
    )
