"""Command `axone train`: train a language model on a text, then sample from it."""

import os
import shlex
import sys
from pathlib import Path

import numpy as np

from axone.cli import console
from axone.cli.console import EXIT_STATUS, UserError, in_options, report, unbreakable_output
from axone.cli.invocation import as_called
from axone.cli.ranks import describe_workers, joined
from axone.cli.shakespeare import download
from axone.cli.tokens import Corpus, list_files
from axone.cli.train_options import NAMES, Options, parse
from axone.llm import (
    Callback,
    EndEvent,
    LanguageModel,
    LossPlot,
    MetricsFile,
    ProgressBar,
    Run,
    SampleText,
    TensorBoard,
    TextFiles,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    bigram_loss,
    format_duration,
    load,
    python_source,
    require_memory,
    unused_run,
)
from axone.llm.distributed import Communicator, in_turn
from axone.tokenizer import CharTokenizer

SAMPLE_TOKENS = 600
ENDS = "at the ends of the files"
BIGRAM_VOCABULARY = 4096  # the table of counts is the square of the vocabulary


def main(arguments: list[str] | None = None) -> int:
    """Train and sample; return the exit status."""
    with joined() as ranks, unbreakable_output() as streams:
        try:
            options = parse(arguments)
            out = Path(ranks.broadcast(str(run_folder(options))))
            trainer = in_turn(ranks, lambda: prepare(options, out, ranks))
        except ValueError as error:  # an option that the library refuses
            raise UserError(in_options(str(error), NAMES)) from error
        status = train(trainer, out)
    errors = [stream.error for stream in streams if stream.error is not None]
    if errors and status == console.SUCCESS:
        report("error", f"some output could not be written ({errors[0].strerror}); the training in {out} is complete")
        return console.OUTPUT_LOST
    return status


def train(trainer: Trainer, out: Path) -> int:
    """Train in a run's folder, and print the plan before and the result after; return the exit status."""
    prompt = trainer.notes["prompt"]
    logs = [TensorBoard(out / "tensorboard")] if trainer.notes.get("tensorboard") else []
    show_plan(trainer)
    generator = TextGenerator(trainer.model, trainer.train_data.tokenizer)
    progress_bar, ending = ProgressBar(sys.stderr), Ending(out)
    trainer.callbacks += [
        progress_bar,
        ending,
        SampleText(generator, progress_bar, prompt=prompt),
        MetricsFile(out / "metrics.jsonl"),
        LossPlot(out / "loss.png", metrics=out / "metrics.jsonl"),
        *logs,
    ]
    try:
        end = trainer.fit()
        status = EXIT_STATUS[end.outcome]
        if status == console.SUCCESS and trainer.communicator.rank == 0:
            show_result(trainer, end)
            show_sample(generator, prompt)
    except KeyboardInterrupt:
        if not ending.is_complete:
            raise
        print("\n\nInterrupted after the last step: the training is complete.")
        status = console.INTERRUPTED
    if ending.is_complete:
        print(f"\nThe run is in {out}, with its loss plot in {out / 'loss.png'}. To write more text:")
        option = "" if prompt == "\n" else f" --prompt {shlex.quote(prompt)}"
        print(f"    {as_called('axone sample')} {shlex.quote(str(out))}{option}", flush=True)
    return status


class Ending(Callback):
    """Prints the command that resumes an interrupted run, before the plot is drawn, which takes a second or two.

    Attributes
    ----------
    is_complete : bool
        Whether all steps were made, or early stopping ended the training.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.is_complete = False

    def on_end(self, event: EndEvent) -> None:
        """Print the command."""
        self.is_complete = EXIT_STATUS[event.outcome] == console.SUCCESS
        if not self.is_complete:
            print(f"\nStopped after step {event.step}; everything is saved in {self._out}. To continue:")
            print(f"    {as_called('axone train')} --resume {shlex.quote(str(self._out))}", flush=True)


def run_folder(options: Options) -> Path:
    """Return the folder of a run: a new one in runs/ unless the options name one."""
    if options.resume is not None:
        return options.resume
    name = options.data if options.data in {"python", "shakespeare"} else Path(os.path.realpath(options.data)).stem
    return options.out or unused_run(f"{name}-{options.preset_name}")


def prepare(options: Options, out: Path, ranks: Communicator) -> Trainer:
    """Return a trainer for a new run, or for one that is resumed."""
    if options.resume is not None:
        return resume(out, options.steps, ranks)
    initial = None if options.init is None else load(options.init)
    usual = options.plan.model["context_length"] if initial is None else initial[0].config.context_length
    context = usual if options.context_length is None else options.context_length
    config = options.plan.trainer_config(context, **options.training)
    Run(out).check_new(overwrite=options.overwrite)
    options.plan.model_config(vocab_size=1)  # refuses wrong options before a vocabulary is learned
    texts = corpus(options.data, options.validation if options.split == "token" else None)
    if initial is None:
        dataset = texts.as_characters() if options.tokenizer == "char" else texts.as_byte_pairs(options.vocab_size)
        model = new_model(options, config, dataset.tokenizer.vocab_size)
    else:
        model, dataset = initial[0], texts.with_tokenizer(initial[1])
    notes = {
        "data_source": options.data,
        "preset": options.preset_name,
        "prompt": encodable("def " if options.data == "python" else "\n", dataset),
        "tensorboard": options.tensorboard,
        "held_out": ENDS if texts.ends else None,
    }
    parts = texts.ends.split(dataset) if texts.ends else dataset.split(options.validation, by=options.split)
    return Trainer(model, *parts, config, run=out, overwrite=options.overwrite, notes=notes, communicator=ranks)


def resume(out: Path, steps: int | None, ranks: Communicator) -> Trainer:
    """Return a trainer that continues a run, maybe to another number of steps."""
    trainer = Trainer.resume(out, steps=steps, communicator=ranks)
    trainer.notes["prompt"] = encodable(Run(out).prompt, datasets(trainer)[0])
    return trainer


def corpus(data: str, held_out: float | None) -> Corpus:
    """Return the texts that `--data` names, and list the files of a folder.

    Parameters
    ----------
    data : str
    held_out : float or None
        Fraction of each file that is held out; None if whole files are.
    """
    if data == "python":
        return Corpus([python_source()], data, sys.stderr)
    path = download() if data == "shakespeare" else Path(data)
    texts = TextFiles(path)
    if path.is_dir():
        print("\n".join(list_files(texts)), flush=True)
    return Corpus(texts, os.path.realpath(path), sys.stderr, held_out=held_out)


def new_model(options: Options, config: TrainerConfig, vocab_size: int) -> LanguageModel:
    """Return a model with random weights, if memory holds the model and its training."""
    shape = options.plan.model_config(vocab_size)
    require_memory(shape, config.num_replicas)
    return LanguageModel(shape, rng=np.random.default_rng(config.seed))


def datasets(trainer: Trainer) -> tuple[TokenDataset, TokenDataset]:
    """Return the texts of a training.

    Raises
    ------
    UserError
        If it is a fine-tuning on conversations.
    """
    train_data, validation_data = trainer.train_data, trainer.validation_data
    if not isinstance(train_data, TokenDataset) or not isinstance(validation_data, TokenDataset):
        raise UserError(f"the run is a fine-tuning on conversations: resume it with {as_called('axone finetune')}")
    return train_data, validation_data


def encodable(prompt: str, dataset: TokenDataset) -> str:
    """Return a prompt, or the first token of the text if the tokenizer lacks a character of the prompt."""
    try:
        dataset.tokenizer.encode(prompt)
    except ValueError:
        return dataset.tokenizer.decode(dataset.tokens[:1].tolist())
    return prompt


def show_plan(trainer: Trainer) -> None:
    """Print the model, the corpus and the training, and the estimate of time and memory."""
    model, config = trainer.model, trainer.config
    held_out = trainer.validation_data.num_targets
    tokens = trainer.train_data.num_targets + held_out
    unit = "characters" if isinstance(trainer.train_data.tokenizer, CharTokenizer) else "tokens"
    vocabulary = f"vocabulary of {model.config.vocab_size:,} {unit}"
    print(f"model            {model.num_parameters():,} parameters, context of {config.context_length} tokens")
    last = ENDS if trainer.notes.get("held_out") == ENDS else "the last"
    print(f"corpus           {tokens:,} tokens, {vocabulary}, {last} {held_out:,} tokens held out")
    turns = config.gradient_accumulation_steps
    batches = f"{turns} x {config.batch_size}" if turns > 1 else f"{config.batch_size}"
    workers = describe_workers(trainer.communicator, trainer.num_workers)
    print(f"training         {config.steps:,} steps of {batches} sequences, {workers}", flush=True)
    estimate = trainer.estimate()
    memory = "" if estimate.memory is None else f", {estimate.memory / 2**20:,.0f} MB of memory"
    print(f"estimate         {format_duration(estimate.seconds)}{memory}\n", flush=True)


def show_result(trainer: Trainer, end: EndEvent) -> None:
    """Print the validation loss, and the bigram baseline if the vocabulary is small."""
    vocab_size = trainer.model.config.vocab_size
    if end.outcome == "stopped":
        print(f"\nStopped early after step {end.step}: the validation loss no longer fell. The best weights are kept.")
    if end.validation_loss is not None:
        print(f"\nvalidation loss  {end.validation_loss:.4f} nats per token, {end.bits_per_byte:.3f} bits per byte")
    if end.temperature is not None:
        print(f"temperature      {end.temperature:.2f}, fitted to text held back from the training")
    if vocab_size <= BIGRAM_VOCABULARY:
        train_data, validation_data = datasets(trainer)
        baseline = bigram_loss(train_data.tokens, validation_data.tokens, vocab_size)
        print(f"bigram baseline  {baseline:.4f} nats per token")
    print(f"training time    {format_duration(end.seconds)}\n")


def show_sample(generator: TextGenerator, prompt: str) -> None:
    """Print a longer text while it is generated."""
    print(prompt, end="")
    for piece in generator.stream(prompt, max_new_tokens=SAMPLE_TOKENS, temperature=0.8, rng=np.random.default_rng(1)):
        print(piece, end="", flush=True)
    print()
