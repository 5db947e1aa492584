"""Command line of `axone train`: its options, and which of them exclude each other."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from axone.cli.config_file import read_options
from axone.cli.invocation import CommandParser
from axone.llm import PRESETS, LanguageModelConfig, Preset, TrainerConfig, preset

DESCRIPTION = """Train a language model on a text, then sample from it.

  axone train                            Python's standard library: two to four minutes
  axone train --data shakespeare         a megabyte of Shakespeare, downloaded once
  axone train --data notes.txt           your own text, or a folder of texts
  axone train --data notes --tokenizer bpe --vocab-size 2048 --preset medium
  axone train --config notes.toml        options of a file, one per line: steps = 500
  axone train --resume runs/NAME         continue an interrupted run
  axone train --resume runs/NAME --steps 5000   train a run longer than planned
  axone sample runs/NAME                 write text with the trained model

On several ranks, on one machine or more: mpiexec -n 4 python -m mpi4py -m axone.cli train

Before the training, its size, its data and an estimate of its time and memory are printed.
"""

EPILOG = """presets:
{presets}

A model with squared ReLU (relu2), n-gram embeddings (max-ngram) or an embedding scale (embedding-scale) is read by Axone
alone; the preset llama makes one that other programs open. With --tokenizer bpe the presets with muon, except llama, have
bigram embeddings alone (--max-ngram 2 --ngram-dropout 0.5). The presets with muon have learning rates for it: with
--optimizer adamw, take a tenth.

Choosing options: the tokens of a step are batch size times context length. A larger model needs more text, more steps and
a lower learning rate. If the validation loss rises while the training loss falls, the model needs more text, more dropout
or fewer steps (--early-stopping-patience N ends the training by itself). Characters need no vocabulary. Subwords, with
--tokenizer bpe, ended 2 to 5 % lower in bits per byte in trials of two minutes.

The folder of a run holds its options, metrics, loss plot, tokens and checkpoints. Ctrl-C finishes the step, saves it, and
prints the command that continues the run; a killed run continues from its last checkpoint in the same way.

Exit status: 0 success, 1 trained but some output could not be written, 2 an error to mend, 130 interrupted, 143 terminated.
"""

Kind: TypeAlias = Callable[[str], Any] | tuple[str, ...]
"""Type of an option's value: a conversion to a number, or the allowed words."""


def choices(configuration: type, field: str) -> tuple[str, ...]:
    """Return the words that a field of a configuration allows."""
    words: tuple[str, ...] = get_args(get_type_hints(configuration)[field])
    return words


MODEL: dict[str, tuple[Kind, str]] = {
    "context-length": (int, "maximum number of tokens that the model sees at once"),
    "num-layers": (int, "number of blocks"),
    "num-heads": (int, "attention heads of each block"),
    "num-kv-heads": (int, "key and value heads of each block (default: as many as heads)"),
    "embed-dim": (int, "width of the model, in channels"),
    "hidden-dim": (int, "width inside the feed-forward layers (default: about 4 times the model's)"),
    "dropout": (float, "dropout probability in training"),
    "norm": (choices(LanguageModelConfig, "norm"), "normalization (default: layer)"),
    "position": (choices(LanguageModelConfig, "position"), "position encoding (default: learned)"),
    "max-ngram": (int, "longest n-grams with embeddings of their own; no Llama or Qwen has more than 1 (default: 1)"),
    "ngram-rows": (int, "rows of each n-gram table (default: 8192)"),
    "ngram-hashes": (int, "parts of an n-gram embedding, each found by a hash of its own (default: 4)"),
    "ngram-dropout": (float, "probability of leaving an n-gram embedding out in training (default: 0)"),
    "mlp": (choices(LanguageModelConfig, "mlp"), "feed-forward layers (default: gelu)"),
    "embedding-scale": (float, "scale of the token embedding at the input; no Llama or Qwen has one (default: 1)"),
}
TRAINING: dict[str, tuple[Kind, str]] = {
    "steps": (int, "number of updates"),
    "batch-size": (int, "sequences per batch"),
    "gradient-accumulation-steps": (int, "batches per step, if one large batch exceeds memory (default: 1)"),
    "sampling": (choices(TrainerConfig, "sampling"), "random sequences (default), or every sequence once per epoch"),
    "optimizer": (choices(TrainerConfig, "optimizer"), "optimizer (default: adamw)"),
    "learning-rate": (float, "peak learning rate"),
    "min-learning-rate": (float, "final learning rate (default: a tenth of the peak)"),
    "muon-learning-rate": (float, "peak learning rate of muon's matrices (default: 0.02)"),
    "schedule": (choices(TrainerConfig, "schedule"), "learning rate over the steps (default: cosine)"),
    "cooldown": (float, "fraction of the steps in which the rate of trapezoid falls, at the end (default: 0.4)"),
    "average": (float, "fraction of the steps, at the end, over which the weights are averaged (default: 0)"),
    "calibration": (
        float,
        "fraction of the training text that is held back, to fit the model's temperature (default: 0)",
    ),
    "warmup-steps": (int, "steps of rising learning rate at the start (default: 100, or a tenth of fewer steps)"),
    "weight-decay": (float, "weight decay, with muon of the embeddings alone (default: 0.1)"),
    "max-grad-norm": (float, "maximum norm of the gradient (default: 1)"),
    "eval-every": (int, "steps between evaluations, each followed by a checkpoint"),
    "save-every": (int, "steps between additional checkpoints"),
    "early-stopping-patience": (int, "evaluations without improvement before training stops (default: no limit)"),
    "workers": (int, "threads or processes (default: one per core)"),
    "seed": (int, "seed of initial weights, batches and dropout (default: 0)"),
}
NOT_IN_A_FILE = {"--config", "--help", "--resume"}
NAMES = [*MODEL, *TRAINING, "vocab-size", "preset", "validation", "split"]
FIXED_BY_INIT = {field.name for field in fields(LanguageModelConfig)} - {"context_length", "vocab_size"} | {"tokenizer"}

FOR_TRAINED_WEIGHTS = {
    "steps": 1300, "batch_size": 16, "learning_rate": 2e-3, "eval_every": 200, "eval_sequences": 200,
}  # fmt: skip
"""Training of the weights that `--init` names: the presets' rates are for new weights, and would undo them."""


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes
    ----------
    data : str
        "python", "shakespeare" or a path.
    tokenizer : {"char", "bpe"}
    vocab_size : int
        Vocabulary size for "bpe".
    preset_name : str
    plan : Preset
        The preset, with the given options of the model.
    training : dict
        The given options of the training.
    steps : int or None
        As given.
    context_length : int or None
    validation : float
        Held-out fraction of the text.
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
    steps: int | None
    context_length: int | None
    validation: float
    split: Literal["token", "document"]
    out: Path | None
    init: Path | None
    resume: Path | None
    overwrite: bool
    tensorboard: bool


def parse(arguments: list[str] | None) -> Options:
    """Parse a command line; exit with status 2 if its options contradict each other.

    Raises
    ------
    ValueError
        If the preset is unknown, or a number is out of range.
    """
    parser = _parser()
    given = parser.parse(arguments)
    if given.config is not None and given.resume is None:
        line = sys.argv[1:] if arguments is None else arguments  # behind those of the file, so that they prevail
        given = parser.parse([*read_options(given.config, parser, excluded=NOT_IN_A_FILE), *line])
    changes = {name: value for name, value in vars(given).items() if value is not None and value is not False}
    if given.resume is not None and not set(changes) <= {"resume", "steps"}:
        parser.error("--resume reads all options but --steps from the run: leave out the others")
    if given.vocab_size is not None and given.tokenizer != "bpe":
        parser.error("--vocab-size requires --tokenizer bpe: the vocabulary of characters follows from the text")
    if given.init is not None and FIXED_BY_INIT & set(changes):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(FIXED_BY_INIT & set(changes)))
        parser.error(f"--init reads model and tokenizer from its folder: leave out {named}")
    if given.data == "":
        parser.error("--data ('') must be python, shakespeare, a file or a folder")
    name = "default" if given.preset is None else given.preset
    plan = preset(name).for_subwords() if given.tokenizer == "bpe" else preset(name)
    trainer = FOR_TRAINED_WEIGHTS if given.init is not None and given.preset is None else plan.trainer
    model = {field.name: changes[field.name] for field in fields(LanguageModelConfig) if field.name in changes}
    training = {field.name: changes[field.name] for field in fields(TrainerConfig) if field.name in changes}
    model.pop("vocab_size", None)
    training.pop("context_length", None)
    return Options(
        data="python" if given.data is None else given.data,
        tokenizer=given.tokenizer or "char",
        vocab_size=2048 if given.vocab_size is None else given.vocab_size,
        preset_name=name,
        plan=replace(plan, model={**plan.model, **model}, trainer=trainer),
        training=training,
        steps=given.steps,
        context_length=given.context_length,
        validation=0.1 if given.validation is None else given.validation,
        split=given.split or "token",
        out=given.out,
        init=given.init,
        resume=given.resume,
        overwrite=given.overwrite,
        tensorboard=given.tensorboard,
    )


def _parser() -> CommandParser:
    parser = CommandParser(
        usage="axone train [options]",
        description=DESCRIPTION,
        epilog=EPILOG.format(presets="\n".join(f"  {name:14}{_summary(preset)}" for name, preset in PRESETS.items())),
        positional_option="--data",
    )
    add = parser.add_argument
    add("--preset", metavar="NAME", help="model and training options, see below (default: default)")
    text = parser.add_argument_group("text")
    add = text.add_argument
    add("--data", metavar="DATA", help="python (default), shakespeare, a text file, or a folder of text files")
    add("--tokenizer", choices=("char", "bpe"), help="characters (default), or subwords trained on the text")
    add("--vocab-size", type=int, metavar="N", help="vocabulary size of bpe (default: 2048)")
    add(
        "--validation",
        type=float,
        metavar="X",
        help="fraction of the text that is held out, at the end of each file (default: 0.1)",
    )
    add(
        "--split",
        choices=("token", "document"),
        help="held-out text: the end of each file (token, default), or the last files (document)",
    )
    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--out", type=Path, metavar="RUN", help="folder of the run (default: a new folder in runs/)")
    add("--overwrite", action="store_true", help="replace an existing run")
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file of options, such as steps = 500; those given here prevail",
    )
    add(
        "--init",
        type=Path,
        metavar="FOLDER",
        help="run or model folder with the initial weights; trained with AdamW at 0.002 unless a preset is named",
    )
    add("--resume", type=Path, metavar="RUN", help="run to continue, also longer than planned with --steps N")
    add("--tensorboard", action="store_true", help="write event files for TensorBoard to RUN/tensorboard")
    for title, options in (("model", MODEL), ("training", TRAINING)):
        group = parser.add_argument_group(f"{title} (defaults from the preset; in parentheses those where it has none)")
        for name, (kind, help_) in options.items():
            if isinstance(kind, tuple):
                group.add_argument(f"--{name}", choices=kind, help=help_)
            else:
                group.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=help_)
        if title == "training":
            group.add_argument(
                "--shard-optimizer", action="store_true", help="a shard of the optimizer's state in each rank"
            )
        if title == "model":
            group.add_argument("--qk-norm", action="store_true", help="normalization of queries and keys")
    return parser


def _summary(preset: Preset) -> str:
    """Return the purpose and the numbers of a preset."""
    model, training = preset.model, preset.trainer
    return (
        f"{preset.summary}\n{'':16}{model['num_layers']} layers of {model['num_heads']} heads, "
        f"{model['embed_dim']} channels, context {model['context_length']}; {training['steps']:,} steps of "
        f"{training['batch_size']} sequences, learning rate {training['learning_rate']:g}"
    )
