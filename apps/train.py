"""Train a language model on a text, then sample from it: `uv run apps/train.py --help`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import console
from console import UserError, in_options

import numpy as np

from axone.llm import (
    Callback,
    End,
    LanguageModel,
    Run,
    TextFiles,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    bigram_loss,
    load,
    python_source,
    require_memory,
    unused_run,
)
from axone.llm.training.loggers import LossPlot, MetricsFile, Progress, Samples, TensorBoard, duration
from sample import usual_prompt
from shakespeare import download
from tokens import Corpus
from train_options import NAMES, Options, parse

SAMPLE_TOKENS = 600
BIGRAM_VOCABULARY = 4096  # the table of counts is its square
INTERRUPTED = {"interrupted", "terminated"}
EXIT_STATUS = {
    "finished": console.SUCCESS,
    "stopped": console.SUCCESS,
    "interrupted": console.INTERRUPTED,
    "terminated": console.TERMINATED,
}


def main(arguments: list[str] | None = None) -> int:
    """Train and sample; return the exit code."""
    try:
        options = parse(arguments)
        trainer, notes, out = prepared(options) if options.resume is None else resumed(options.resume)
    except ValueError as error:  # the library's one-sentence refusals of what was asked for
        raise UserError(in_options(str(error), NAMES)) from error
    prompt = notes["prompt"]
    more = [tensorboard(out)] if notes["tensorboard"] else []
    show_plan(trainer)
    generator = TextGenerator(trainer.model, trainer.train_data.tokenizer)
    progress = Progress(sys.stderr)
    trainer.callbacks += [
        progress,
        HowToGoOn(out),
        Samples(generator, progress, prompt=prompt),
        MetricsFile(out / "metrics.jsonl"),
        LossPlot(out / "metrics.jsonl", out / "loss.png"),
        *more,
    ]
    end = trainer.fit()

    if end.outcome in INTERRUPTED:
        return EXIT_STATUS[end.outcome]
    show_result(trainer, end)
    show_sample(generator, prompt)
    print(f"\nThe run lies in {out}, its loss plot in {out / 'loss.png'}. To sample more:")
    asked = "" if prompt == "\n" else f" --prompt {shlex.quote(prompt)}"
    print(f"    uv run apps/sample.py {shlex.quote(str(out))}{asked}")
    return EXIT_STATUS[end.outcome]


class HowToGoOn(Callback):
    """Says how to go on with a run that was interrupted, before the plot, which takes a second or two."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_end(self, event: End) -> None:
        """Print it."""
        if event.outcome in INTERRUPTED:
            print(f"\nStopped after step {event.step}; everything is saved in {self._out}. To go on:")
            print(f"    uv run apps/train.py --resume {shlex.quote(str(self._out))}", flush=True)


def prepared(options: Options) -> tuple[Trainer, dict[str, Any], Path]:
    """Return a trainer for a new run, what the app notes in it, and the run's folder."""
    initial = None if options.init is None else load(options.init)
    usual = options.plan.model["context_length"] if initial is None else initial[0].config.context_length
    context = usual if options.context_length is None else options.context_length
    config = options.plan.trainer_config(context, **options.training)
    name = options.data if options.data in {"python", "shakespeare"} else Path(options.data).resolve().stem
    out = options.out or unused_run(f"{name}-{options.preset_name}")
    Run(out).check_new(overwrite=options.overwrite)
    options.plan.model_config(vocab_size=1)  # says what is wrong before a vocabulary is learned
    texts = corpus(options.data)
    if initial is None:
        dataset = tokenized(texts, options)
        model = new_model(options, config, dataset.tokenizer.vocab_size)
    else:
        model, dataset = initial[0], texts.with_tokenizer(initial[1])
    notes = {
        "data_source": options.data,
        "preset": options.preset_name,
        "prompt": first_prompt(options.data, dataset),
        "tensorboard": options.tensorboard,
    }
    parts = dataset.split(options.validation, by=options.split)
    return Trainer(model, *parts, config, run=out, overwrite=options.overwrite, notes=notes), notes, out


def resumed(run: Path) -> tuple[Trainer, dict[str, Any], Path]:
    """Return a trainer that goes on with a run, what the app noted in it, and the run's folder."""
    trainer = Trainer.resume(run)
    prompt = readable(usual_prompt(run), trainer.train_data)
    return trainer, {"prompt": prompt, "tensorboard": Run(run).options().get("tensorboard")}, run


def tensorboard(out: Path) -> TensorBoard:
    """Return what writes for TensorBoard."""
    try:
        return TensorBoard(out / "tensorboard")
    except ImportError as error:
        raise UserError(
            "--tensorboard needs the package tensorboardX: install it, or do without and read metrics.jsonl"
        ) from error


def corpus(data: str) -> Corpus:
    """Return the texts that `--data` names."""
    if data == "python":
        return Corpus([python_source()], data, sys.stderr)
    path = download() if data == "shakespeare" else Path(data)
    return Corpus(TextFiles(path), str(path.resolve()), sys.stderr)


def tokenized(texts: Corpus, options: Options) -> TokenDataset:
    """Return the texts as tokens of a tokenizer that is learned from them."""
    return texts.as_characters() if options.tokenizer == "char" else texts.as_byte_pairs(options.vocab_size)


def new_model(options: Options, config: TrainerConfig, vocab_size: int) -> LanguageModel:
    """Return a model with fresh weights, if memory holds it and what training adds."""
    shape = options.plan.model_config(vocab_size)
    require_memory(shape, config.num_replicas)
    return LanguageModel(shape, rng=np.random.default_rng(config.seed))


def first_prompt(data: str, dataset: TokenDataset) -> str:
    """Return what samples go on from: something that the model has read."""
    return readable("def " if data == "python" else "\n", dataset)


def readable(prompt: str, dataset: TokenDataset) -> str:
    """Return a prompt, or how the text begins if that lacks some character of it."""
    try:
        dataset.tokenizer.encode(prompt)
    except ValueError:
        return dataset.tokenizer.decode(dataset.tokens[:1].tolist())
    return prompt


def show_plan(trainer: Trainer) -> None:
    """Print what will be trained, on what, and, when some steps have been tried, what it will take."""
    model, config = trainer.model, trainer.config
    held_out = len(trainer.validation_data)
    tokens = len(trainer.train_data) + held_out
    print(f"model           {model.num_parameters():,} parameters, context {config.context_length} tokens")
    print(f"corpus          {tokens:,} tokens of {model.config.vocab_size:,} kinds, the last {held_out:,} held out")
    turns = config.gradient_accumulation_steps
    batches = f"{turns} x {config.batch_size}" if turns > 1 else f"{config.batch_size}"
    workers = "1 worker" if config.num_replicas == 1 else f"{config.num_replicas} workers"
    print(f"training        {config.steps:,} steps of {batches} windows, {workers}", flush=True)
    estimate = trainer.estimate()
    memory = "" if estimate.memory is None else f", {estimate.memory / 2**20:,.0f} MB of memory"
    print(f"estimate        {duration(estimate.seconds)}{memory}\n", flush=True)


def show_result(trainer: Trainer, end: End) -> None:
    """Print the loss on held-out text beside that of the model to beat."""
    vocab_size = trainer.model.config.vocab_size
    if end.outcome == "stopped":
        print(f"\nStopped after step {end.step}: the loss on held-out text no longer fell. The best weights are kept.")
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
