"""Command `axone finetune`: fine-tune a model on conversations, with an adapter or without."""

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from axone.cli import console
from axone.cli.console import EXIT_STATUS, UserError, in_options, unbreakable_output
from axone.cli.finetune_options import NAMES, PRESETS, parse
from axone.cli.invocation import as_called
from axone.cli.ranks import describe_workers, joined
from axone.llm import (
    Adapter,
    Callback,
    Conversations,
    EndEvent,
    LanguageModel,
    LossPlot,
    MetricsFile,
    ModelBundle,
    ProgressBar,
    Run,
    Trainer,
    TrainerConfig,
    conversation_loss,
    format_duration,
    open_bundle,
    perplexity,
    read_text,
    train_last_blocks,
    unused_run,
)
from axone.llm.distributed import Communicator, in_turn
from axone.tokenizer import Tokenizer

LONGEST = 1024  # tokens of a conversation, unless more are asked for: attention takes the square
KEPT_TOKENS = 8_000  # of the plain text: half a minute for SmolLM2 on two cores
GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune; return the exit status."""
    with joined() as ranks, unbreakable_output():
        options = parse(arguments)
        try:
            if options.show_mask:
                show_mask(read_conversations(open_bundle(options.path), options))
                return console.SUCCESS
            out = Path(ranks.broadcast(str(run_folder(options))))
            trainer = in_turn(ranks, lambda: prepare(options, out, ranks))
        except ValueError as error:  # an option that the library refuses
            raise UserError(in_options(str(error), NAMES)) from error
        return train(trainer, out)


def read_conversations(bundle: ModelBundle, options: argparse.Namespace) -> Conversations:
    """Read the data, and say how much of it is learned."""
    longest = bundle.model.config.context_length
    context = min(longest, LONGEST) if options.context_length is None else options.context_length
    if context > longest:
        raise UserError(f"--context-length ({context}) must be at most that of the model ({longest})")
    template = None if bundle.chat_template_text is None else bundle.chat_template
    data = Conversations.from_jsonl(options.data, bundle.tokenizer, template, context_length=context)
    tokens, learned = len(data.ids), data.num_targets
    print(
        f"data             {len(data):,} sequences of {tokens:,} tokens, {learned:,} learned ({learned / tokens:.0%})"
    )
    if data.num_cut or data.num_left_out:
        print(
            f"                 {data.num_cut:,} cut after an answer to fit into {context} tokens, {data.num_left_out:,} left out"
        )
    return data


def show_mask(data: Conversations) -> None:
    """Print the first conversation, with the learned tokens in colour, or in double brackets without a terminal."""
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    before, after = (GREEN, PLAIN) if colours else ("[[", "]]")
    print("".join(f"{before}{text}{after}" if learned else text for text, learned in data.pieces(0)))


def run_folder(options: argparse.Namespace) -> Path:
    """Return the folder of a run: a new one in runs/ unless the options name one."""
    folder: Path = options.resume or options.out or unused_run(f"{Path(os.path.realpath(options.data)).stem}-finetuned")
    return folder


def prepare(options: argparse.Namespace, out: Path, ranks: Communicator) -> Trainer:
    """Return a trainer for a new run, or for one that is resumed."""
    if options.resume is not None:
        return resume(out, options.steps, ranks)
    bundle = open_bundle(options.path)
    data = read_conversations(bundle, options)
    Run(out).check_new(overwrite=options.overwrite)
    parts = data.split(options.validation, seed=options.seed)
    config = trainer_config(parts[0], int(data.lengths.max()), options)
    keep = None if options.keep is None else os.path.realpath(options.keep)
    notes: dict[str, Any] = {
        "finetuning": "full" if options.full else "blocks" if options.last_blocks else "adapter",
        "base": os.path.realpath(options.path),
        "last_blocks": options.last_blocks,
        "keep": keep,
    }
    if ranks.rank == 0:  # which alone writes and prints
        print(f"{'before':17}", end="", flush=True)
        before = notes["before"] = measure(bundle.model, parts[1], bundle.tokenizer, keep)
        plain = "" if keep is None else f", perplexity of plain text {before['keep']:.2f}"
        print(f"held-out loss {before['loss']:.3f} nats per token{plain}", flush=True)
    adapter = None
    if notes["finetuning"] == "adapter":
        preset = PRESETS[options.preset]
        rank = preset.rank if options.rank is None else options.rank
        adapter = Adapter.add(
            bundle.model,
            rank,
            2.0 * rank if options.alpha is None else options.alpha,
            "all-linear" if options.targets is None else options.targets.split(","),
            dropout=options.dropout or 0.0,
            rslora=options.rslora,
            base_name=notes["base"],
            rng=np.random.default_rng(options.seed),
        )
    elif options.last_blocks:
        train_last_blocks(bundle.model, options.last_blocks)
    return Trainer(
        bundle.model,
        *parts,
        config,
        run=out,
        overwrite=options.overwrite,
        notes=notes,
        adapter=adapter,
        chat_template_text=bundle.chat_template_text,
        communicator=ranks,
    )


def trainer_config(train_data: Conversations, longest: int, options: argparse.Namespace) -> TrainerConfig:
    """Return the options of the training."""
    preset = PRESETS[options.preset]
    epochs = preset.epochs if options.epochs is None else options.epochs
    steps = options.steps
    if steps is None:
        steps = epochs * math.ceil(len(train_data) / options.batch_size)
        if options.epochs is None:
            steps = max(steps, preset.least_steps)
            steps = steps if preset.most_steps is None else min(steps, preset.most_steps)
    with_adapter = not (options.full or options.last_blocks)
    usual_rate = 5e-4 if with_adapter else 5e-5
    return TrainerConfig(
        steps=steps,
        batch_size=options.batch_size,
        context_length=longest,
        learning_rate=usual_rate if options.learning_rate is None else options.learning_rate,
        schedule="linear",
        weight_decay=0.0,
        eval_every=max(steps // 4, 1) if options.eval_every is None else options.eval_every,
        early_stopping_patience=options.early_stopping_patience,
        workers=options.workers,
        seed=options.seed,
        shard_optimizer=options.shard_optimizer,
    )


def resume(out: Path, steps: int | None, ranks: Communicator) -> Trainer:
    """Return a trainer that continues a run, maybe to another number of steps."""
    trainer = Trainer.resume(out, steps=steps, communicator=ranks)
    if trainer.notes.get("finetuning") not in {"adapter", "full", "blocks"}:
        raise UserError(f"{out} is not a fine-tuning: resume it with {as_called('axone train')}")
    if trainer.notes["finetuning"] == "blocks":
        train_last_blocks(trainer.model, trainer.notes["last_blocks"])
    return trainer


def train(trainer: Trainer, out: Path) -> int:
    """Train in a run's folder, and print the plan before and the result after; return the exit status."""
    show_plan(trainer)
    progress_bar = ProgressBar(sys.stderr)
    metrics = out / "metrics.jsonl"
    trainer.callbacks += [
        progress_bar,
        ResumeCommand(out),
        MetricsFile(metrics),
        LossPlot(out / "loss.png", metrics=metrics),
    ]
    end = trainer.fit()
    status = EXIT_STATUS[end.outcome]
    if status == console.SUCCESS and trainer.communicator.rank == 0:
        if trainer.adapter is not None:
            trainer.adapter.load_weights(Run(out).best().path)
            trainer.adapter.save(out / "adapter")
        try:
            show_result(trainer, end)
        except KeyboardInterrupt:
            print("\nInterrupted after the last step: the fine-tuning is complete.")
            status = console.INTERRUPTED
        show_commands(trainer, out)
    return status


class ResumeCommand(Callback):
    """Prints the command that resumes an interrupted run."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_end(self, event: EndEvent) -> None:
        """Print the command."""
        if EXIT_STATUS[event.outcome] != console.SUCCESS:
            print(f"\nStopped after step {event.step}; everything is saved in {self._out}. To continue:")
            print(f"    {as_called('axone finetune')} --resume {shlex.quote(str(self._out))}", flush=True)


def show_plan(trainer: Trainer) -> None:
    """Print the trained parameters and the training, and the estimate of time and memory."""
    config = trainer.config
    total = sum(p.size for name, p in trainer.model.named_parameters() if "lora_" not in name)
    trained = sum(parameter.size for parameter in trainer.model.parameters() if parameter.requires_grad)
    print(f"model            {total:,} parameters, {trained:,} trained")
    workers = describe_workers(trainer.communicator, trainer.num_workers)
    print(f"training         {config.steps:,} steps of {config.batch_size} sequences, {workers}", flush=True)
    estimate = trainer.estimate()
    memory = "" if estimate.memory is None else f", {estimate.memory / 2**20:,.0f} MB of memory"
    print(f"estimate         {format_duration(estimate.seconds)}{memory}\n", flush=True)


def measure(model: LanguageModel, data: Any, tokenizer: Tokenizer, keep: str | None) -> dict[str, float]:
    """Return the loss on held-out conversations, and the perplexity of the plain text, if there is one."""
    found = {"loss": conversation_loss(model, data)}
    if keep is not None:
        found["keep"] = perplexity(model, tokenizer.encode_to_array(read_text(keep))[:KEPT_TOKENS])
    return found


def show_result(trainer: Trainer, end: EndEvent) -> None:
    """Print the losses before and after the fine-tuning."""
    before, keep = trainer.notes["before"], trainer.notes["keep"]
    print(f"\n{'':24}{'before':>10}{'after':>10}", flush=True)
    after = measure(trainer.model, trainer.validation_data, trainer.train_data.tokenizer, keep)
    print(f"{'held-out loss':24}{before['loss']:>10.3f}{after['loss']:>10.3f}   nats per token")
    print(f"{'held-out perplexity':24}{math.exp(before['loss']):>10.2f}{math.exp(after['loss']):>10.2f}")
    if keep is not None:
        change = after["keep"] / before["keep"] - 1
        print(f"{'perplexity of plain text':24}{before['keep']:>10.2f}{after['keep']:>10.2f}   {change:+.1%}")
    print(f"\ntraining time    {format_duration(end.seconds)}")


def show_commands(trainer: Trainer, out: Path) -> None:
    """Print the commands that use the result."""
    run = shlex.quote(str(out))
    print("\nTo chat with the model, and to export it:")
    print(f"    {as_called('axone chat')} {run}")
    if trainer.adapter is None:
        print(f"    {as_called('axone export')} {run} --to tuned")
    else:
        base = shlex.quote(shortened(trainer.notes["base"]))
        print(f"    {as_called('axone export')} {base} --adapter {shlex.quote(str(out / 'adapter'))} --to tuned")


def shortened(path: str) -> str:
    """Return a path relative to the current folder, if it is inside."""
    here = os.path.realpath(os.curdir) + os.sep
    return path.removeprefix(here)
