"""Benchmark of drafts from the prompt without times: tokens per forward of a real model, for each task of `draft_tasks`.

    python benchmarks/drafts.py MODEL [--tokens N]

A forward reads the last token and the guesses for the tokens after it. Its time grows with the guesses; `speed` measures
the times of some tasks (race ``real-drafts``). Answers are greedy, and end with the model's end of text.
"""

import argparse
import math
from pathlib import Path

from draft_tasks import FREE, GROUNDED, LATER

from axone.llm import generate, open_bundle
from axone.llm.generation.speculation import Speculation


class Counter:
    """The forwards and guesses of one answer, counted where their times are taken."""

    def __init__(self) -> None:
        self.forwards = self.guesses = 0
        self._time = Speculation.time

    def __enter__(self):
        def count(speculation, guesses, seconds):
            self.forwards += 1
            self.guesses += guesses
            self._time(speculation, guesses, seconds)

        Speculation.time = count
        return self

    def __exit__(self, *_):
        Speculation.time = self._time


def main() -> None:
    """Print a table of all tasks, and geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="SmolLM2-135M-Instruct, a .gguf file or a folder")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="most tokens of an answer (default: 256)")
    options = parser.parse_args()
    bundle = open_bundle(options.model)
    means = {}
    print("| task | tokens | forwards | tokens per forward | guesses | right |\n|---|---:|---:|---:|---:|---:|")
    for name, text in {**GROUNDED, **FREE}.items():
        messages = [{"role": "user", "content": text}]
        ids = bundle.chat_template.encode(messages, bundle.tokenizer, add_generation_prompt=True)
        with Counter() as counter:
            tokens = list(generate(bundle.model, ids, max_new_tokens=options.tokens, temperature=0, draft="prompt"))
        kind = ("grounded" if name in GROUNDED else "free") + (", later" if name in LATER else "")
        means.setdefault(kind, []).append(math.log(len(tokens) / counter.forwards))
        figures = f"{len(tokens)} | {counter.forwards} | {len(tokens) / counter.forwards:.2f} | {counter.guesses}"
        print(f"| {name} ({kind}) | {figures} | {len(tokens) - counter.forwards} |", flush=True)
    for kind, logs in means.items():
        print(f"{kind}: {math.exp(sum(logs) / len(logs)):.2f} tokens per forward, geometric mean of {len(logs)}")


if __name__ == "__main__":
    main()
