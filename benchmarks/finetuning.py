"""Fine-tune a real model on a checkable task: dates of many forms into ISO 8601, on held-out forms before and after.

    python benchmarks/finetuning.py SmolLM2-135M-Instruct.Q4_1.gguf [--steps N] [--text FILE]

Prints exact match and the perplexity of a plain text before and after, seconds, tokens per second and peak memory. The
examples are generated; the held-out part has surface forms that the training never shows.
"""

import argparse
import calendar
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from axone.llm import (
    Adapter,
    Chat,
    Conversations,
    SamplingConfig,
    Trainer,
    TrainerConfig,
    conversation_loss,
    open_bundle,
    perplexity,
)

MONTHS = list(calendar.month_name)[1:]
PLAIN = Path(__file__).parent.parent / "README.md"


def ordinal(day):
    ending = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


TRAINED = (
    lambda y, m, d: f"{MONTHS[m - 1]} {d}, {y}",
    lambda y, m, d: f"{d} {MONTHS[m - 1]} {y}",
    lambda y, m, d: f"{MONTHS[m - 1][:3]} {d} {y}",
    lambda y, m, d: f"{ordinal(d)} {MONTHS[m - 1]} {y}",
    lambda y, m, d: f"{d}. {MONTHS[m - 1]} {y}",
    lambda y, m, d: f"{y}, {MONTHS[m - 1]} {d}",
    lambda y, m, d: f"{d} {MONTHS[m - 1][:3]} {y}",
)
HELD_OUT = (
    lambda y, m, d: f"the {ordinal(d)} of {MONTHS[m - 1]} {y}",
    lambda y, m, d: f"{MONTHS[m - 1]} {ordinal(d)}, {y}",
    lambda y, m, d: f"{d}-{MONTHS[m - 1][:3]}-{y}",
)


def examples(count, forms, seed):
    """Return prompts and answers."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        y, m = int(rng.integers(1900, 2100)), int(rng.integers(1, 13))
        d = int(rng.integers(1, calendar.monthrange(y, m)[1] + 1))
        form = forms[number % len(forms)]
        yield {"prompt": f"Write this date as YYYY-MM-DD: {form(y, m, d)}", "completion": f"{y:04}-{m:02}-{d:02}"}


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def exact_match(bundle, tests):
    right = 0
    for test in tests:
        chat = Chat(
            bundle.model,
            bundle.tokenizer,
            bundle.chat_template,
            max_new_tokens=16,
            sampling=SamplingConfig(temperature=0),
        )
        right += "".join(chat.send(test["prompt"])).strip() == test["completion"]
    return right / len(tests)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--examples", type=int, default=1600)
    parser.add_argument("--tests", type=int, default=90)
    parser.add_argument("--text", default=PLAIN)
    options = parser.parse_args()
    bundle = open_bundle(options.model)
    tests = list(examples(options.tests, HELD_OUT, seed=1))
    plain = bundle.tokenizer.encode_to_array(Path(options.text).read_text(encoding="utf-8"))[:4000]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "train.jsonl", examples(options.examples, TRAINED, seed=0))
        data = Conversations.from_jsonl(path, bundle.tokenizer, bundle.chat_template, context_length=256)
    train, validation = data.split(0.02)
    before = exact_match(bundle, tests), perplexity(bundle.model, plain), conversation_loss(bundle.model, validation)
    print(
        f"before   exact match {before[0]:.0%}, plain text {before[1]:.3f}, held-out loss {before[2]:.3f}", flush=True
    )
    adapter = Adapter.add(bundle.model, options.rank, 2 * options.rank, rng=np.random.default_rng(0))
    config = TrainerConfig(
        steps=options.steps, batch_size=options.batch_size, context_length=int(data.lengths.max()),
        learning_rate=options.learning_rate, schedule="linear", weight_decay=0.0, eval_every=10**6,
    )  # fmt: skip
    begin = time.perf_counter()
    Trainer(bundle.model, train, validation, config, adapter=adapter).fit()
    seconds = time.perf_counter() - begin
    adapter.merge(bundle.model)
    after = exact_match(bundle, tests), perplexity(bundle.model, plain), conversation_loss(bundle.model, validation)
    print(f"after    exact match {after[0]:.0%}, plain text {after[1]:.3f}, held-out loss {after[2]:.3f}")
    tokens = options.steps * train.tokens_per_batch(options.batch_size, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"training {seconds:.0f} s, {tokens / seconds:,.0f} tokens per second, {peak:,.0f} MB at the peak of the program"
    )
    print(f"plain text {after[1] / before[1] - 1:+.1%}")


if __name__ == "__main__":
    main()
