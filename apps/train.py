"""Train a language model on a text, then sample from it.

uv run apps/train.py                          on Python's own standard library, two minutes
uv run apps/train.py --data shakespeare       downloads a megabyte of Shakespeare
uv run apps/train.py --data notes.txt         on a text of your own, or a folder of texts
uv run apps/train.py --resume runs/NAME       goes on with a run that was interrupted
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

import console
from axone.llm import (
    PRESETS,
    End,
    LanguageModel,
    TextGenerator,
    TokenDataset,
    Trainer,
    bigram_loss,
    load,
    preset,
    python_source,
    read_text,
    unused_run,
)
from axone.llm.report import LossPlot, MetricsFile, Progress, Samples, duration
from axone.llm.run import Run
from axone.tokenizer import CharTokenizer, Tokenizer
from console import UserError
from shakespeare import download

SAMPLE_TOKENS = 600
BIGRAM_VOCABULARY = 4096  # the table of counts is its square

EPILOG = """presets:
{presets}

A run's folder holds its options, metrics, loss plot and checkpoints. Ctrl-C finishes the step, saves, and says how to
go on. Exit status: 0 done, 2 something to put right, 130 interrupted.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    presets = "\n".join(f"  {name:14}{preset.summary}" for name, preset in PRESETS.items())
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__,
        epilog=EPILOG.format(presets=presets),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", metavar="WHAT", help="python (default), shakespeare, a text file, or a folder of them"
    )
    parser.add_argument("--preset", metavar="NAME", help="model and training, see below (default: default)")
    parser.add_argument("--steps", type=int, metavar="N", help="how many updates to make (default: the preset's)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: one for each core)")
    parser.add_argument("--seed", type=int, metavar="N", help="first weights, batches and dropout (default: 0)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: a new one in runs/)")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there already")
    parser.add_argument("--init", type=Path, metavar="FOLDER", help="start from the weights of a run or model folder")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run; takes no other option")
    options = parser.parse_args(arguments)
    if options.resume is not None and any(value for name, value in vars(options).items() if name != "resume"):
        parser.error("--resume takes everything from the run: give it without other options")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and sample; return the exit code."""
    options = parse(arguments)
    if options.resume is not None:
        trainer, prompt, out = resumed(options.resume)
    else:
        trainer, prompt, out = prepared(options)

    show_plan(trainer)
    generator = TextGenerator(trainer.model, trainer.train_data.tokenizer)
    progress = Progress(sys.stderr)
    trainer.callbacks += [
        progress,
        Samples(generator, progress, prompt=prompt),
        MetricsFile(out / "metrics.jsonl"),
        LossPlot(out / "metrics.jsonl", out / "loss.png"),
    ]
    try:
        end = trainer.fit()
    finally:
        progress.close()

    if end.outcome != "finished":
        print(f"\nStopped after step {end.step}; everything is saved in {out}. To go on:")
        print(f"    uv run apps/train.py --resume {shlex.quote(str(out))}")
        return console.INTERRUPTED if end.outcome == "interrupted" else console.TERMINATED
    show_result(trainer, end)
    show_sample(generator, prompt)
    print(f"\nThe run lies in {out}, its loss plot in {out / 'loss.png'}. To sample more:")
    asked = "" if prompt == "\n" else f" --prompt {shlex.quote(prompt)}"  # a new line is the default
    print(f"    uv run apps/sample.py {shlex.quote(str(out))}{asked}")
    return console.SUCCESS


def prepared(options: argparse.Namespace) -> tuple[Trainer, str, Path]:
    """Return a trainer for a new run, the prompt of its samples, and the run's folder."""
    data = options.data or "python"
    try:
        plan = preset(options.preset or "default")
        text = corpus(data)
        initial = None if options.init is None else load(options.init)
        config = plan.trainer_config(
            plan.model["context_length"] if initial is None else initial[0].config.context_length,
            steps=options.steps,
            workers=options.workers,
            seed=options.seed,
        )
        if initial is None:
            tokenizer: Tokenizer = CharTokenizer.train(text)
            rng = np.random.default_rng(config.seed)
            model = LanguageModel(plan.model_config(tokenizer.vocab_size), rng=rng)
        else:
            model, tokenizer = initial
        dataset = TokenDataset.from_text(text, tokenizer)
        name = data if data in {"python", "shakespeare"} else Path(data).resolve().stem
        out = options.out or unused_run(f"{name}-{options.preset or 'default'}")
        notes = {"data_source": data, "preset": options.preset or "default", "prompt": first_prompt(data, text)}
        trainer = Trainer(model, *dataset.split(), config, run=out, overwrite=options.overwrite, notes=notes)
        trainer.check_run()
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(str(error)) from error
    return trainer, str(notes["prompt"]), out


def resumed(run: Path) -> tuple[Trainer, str, Path]:
    """Return a trainer that goes on with a run, the prompt of its samples, and the run's folder."""
    trainer = Trainer.resume(run)
    return trainer, str(Run(run).options().get("prompt") or "\n"), run


def corpus(data: str) -> str:
    """Return the text that `--data` names."""
    if data == "python":
        return python_source()
    return read_text(download() if data == "shakespeare" else data)


def first_prompt(data: str, text: str) -> str:
    """Return what samples go on from: something that the model has read."""
    return "def " if data == "python" else "\n" if "\n" in text else text[0]


def show_plan(trainer: Trainer) -> None:
    """Print what will be trained, on what, and what it will take."""
    model, config = trainer.model, trainer.config
    tokens = len(trainer.train_data) + len(trainer.validation_data)
    estimate = trainer.estimate()
    memory = "" if estimate.memory is None else f", {estimate.memory / 2**20:,.0f} MB of memory"
    print(f"model           {model.num_parameters():,} parameters, context {config.context_length} tokens")
    print(f"corpus          {tokens:,} tokens of {model.config.vocab_size} kinds, the last part held out")
    print(f"training        {config.steps:,} steps of {config.batch_size} windows, {trainer.workers} workers")
    print(f"estimate        {duration(estimate.seconds)}{memory}\n", flush=True)


def show_result(trainer: Trainer, end: End) -> None:
    """Print the loss on held-out text beside that of the model to beat."""
    vocab_size = trainer.model.config.vocab_size
    if end.validation_loss is not None:
        print(f"\nvalidation loss {end.validation_loss:.4f} nats a token, {end.bits_per_byte:.3f} bits a byte")
    if vocab_size <= BIGRAM_VOCABULARY:
        pairs = bigram_loss(trainer.train_data.tokens, trainer.validation_data.tokens, vocab_size)
        print(f"counted pairs   {pairs:.4f} nats a token: what a bigram model reaches on the same text")
    print(f"training took   {duration(end.seconds)}\n")


def show_sample(generator: TextGenerator, prompt: str) -> None:
    """Print a longer text, as it is generated."""
    print(prompt, end="")
    for piece in generator.stream(prompt, max_new_tokens=SAMPLE_TOKENS, temperature=0.8, rng=np.random.default_rng(1)):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    sys.exit(console.run(main))
