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

import console
from console import UserError

EPILOG = """presets:
{presets}

A run's folder holds its options, metrics, loss plot and checkpoints. Ctrl-C finishes the step, saves, and says how to
go on. Exit status: 0 done, 2 something to put right, 130 interrupted.
"""


def parse(arguments: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and what the user asked for."""
    from axone.llm import PRESETS

    presets = "\n".join(f"  {name:14}{preset.summary}" for name, preset in PRESETS.items())
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__,
        epilog=EPILOG.format(presets=presets),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="WHAT", help="python (default), shakespeare, a text file, or a folder of them")
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
    return parser, options


def main(arguments: list[str] | None = None) -> int:
    """Train and sample; return the exit code."""
    _, options = parse(arguments)
    # Imported after the arguments are known to be right: --help answers at once.
    from axone.llm import TextGenerator, Trainer
    from axone.llm.report import LossPlot, MetricsFile, Progress, Samples, duration

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
    show_result(trainer, end.validation_loss, end.bits_per_byte)
    print(f"training took   {duration(end.seconds)}\n")
    show_sample(generator, prompt)
    print(f"\nThe run lies in {out}, its loss plot in {out / 'loss.png'}. To sample more:")
    print(f"    uv run apps/sample.py {shlex.quote(str(out))} --prompt {shlex.quote(prompt)}")
    return console.SUCCESS


if __name__ == "__main__":
    sys.exit(console.run(main))
