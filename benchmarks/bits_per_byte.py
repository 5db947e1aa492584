"""Comparison of tokenizers in bits per byte: models with character and subword vocabularies on the same text.

Losses in nats per token are not comparable, because tokens differ in length. Bits per byte are: nats per token, divided
by ln 2, times tokens per byte. All models have the same blocks and train for the same time: the number of steps follows
from the time of a few steps before. All are trained on the same text and measured on its last tenth, from which no
vocabulary was learned, except that the character vocabulary includes its characters. Byte pairs have the preset's options
for subwords.

    python benchmarks/bits_per_byte.py tinyshakespeare.txt --minutes 2 --vocab-sizes 512 2048
    python benchmarks/bits_per_byte.py python --minutes 2 --vocab-sizes 2048
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from axone.llm import (
    PRESETS,
    LanguageModel,
    TokenDataset,
    Trainer,
    format_duration,
    preset,
    python_source,
    read_text,
)
from axone.tokenizer import BPETokenizer, CharTokenizer

HEADINGS = (
    "tokens",
    "vocabulary",
    "parameters",
    "bytes per token",
    "steps",
    "trained",
    "nats per token",
    "bits per byte",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="text file, folder of text files, or python for Python's library")
    parser.add_argument("--minutes", type=float, default=1.5, help="training time of each model (default: 1.5)")
    parser.add_argument(
        "--vocab-sizes",
        type=int,
        nargs="+",
        default=[512, 2048],
        metavar="N",
        help="BPE vocabulary sizes (default: 512 2048)",
    )
    parser.add_argument(
        "--preset", choices=PRESETS, default="default", help="preset with the shape of the models (default: default)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    text = python_source() if options.text == Path("python") else read_text(options.text)
    cut = int(0.9 * len(text))
    train, held_out = text[:cut], text[cut:]
    tokenizers = [CharTokenizer.train(text), *(BPETokenizer.train(train, size) for size in options.vocab_sizes)]
    rows = [measured(tokenizer, train, held_out, options) for tokenizer in tokenizers]
    print(f"{options.text.name}: {len(text.encode()):,} bytes, the last {len(held_out.encode()):,} held out")
    print(f"preset {options.preset}, {format_duration(60 * options.minutes)} of training each\n")
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows)]
    for row in (HEADINGS, *rows):
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))


def measured(tokenizer, train, held_out, options):
    """Train a model with a tokenizer, and return its row of the table."""
    characters = isinstance(tokenizer, CharTokenizer)
    plan = preset(options.preset) if characters else preset(options.preset).for_subwords()
    data = [TokenDataset.from_text(part, tokenizer) for part in (train, held_out)]
    model = LanguageModel(plan.model_config(tokenizer.vocab_size), rng=np.random.default_rng(options.seed))

    def trainer(steps):
        # A single evaluation, at the end: all of the time is for training.
        changes = {"steps": steps, "eval_every": steps, "eval_sequences": None, "seed": options.seed}
        return Trainer(model, *data, plan.trainer_config(plan.model["context_length"], **changes))

    steps = max(1, round(60 * options.minutes / trainer(1).estimate().seconds_per_step))
    kind = "characters" if characters else "byte pairs"
    print(f"{tokenizer.vocab_size:,} {kind}: {steps:,} steps", file=sys.stderr, flush=True)
    began = time.perf_counter()
    end = trainer(steps).fit()
    return (
        kind,
        f"{tokenizer.vocab_size:,}",
        f"{model.num_parameters():,}",
        f"{len(held_out.encode()) / len(data[1]):.2f}",
        f"{steps:,}",
        format_duration(time.perf_counter() - began),
        f"{end.validation_loss:.3f}",
        f"{end.bits_per_byte:.3f}",
    )


if __name__ == "__main__":
    main()
