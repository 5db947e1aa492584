"""Generation, the reading of prompts, and how soon training begins: ours in races against the peers.

    python benchmarks/generation.py [RACE ...] [--peer-python PATH] [--rounds N] [--json FILE]

The peers need PyTorch and transformers in the environment of ``--peer-python``. All models have random weights, for the
time does not depend on them. See `harness` for how a race is run.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import Contender, as_json, cores, machine, once, race

from axone.llm import LanguageModelConfig, TokenDataset
from axone.llm.layout import count_parameters
from axone.tokenizer import CharTokenizer

NEW_TOKENS = 256
READINGS = 8  # of a gigabyte, in a unit of the contender that does nothing else


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    work, peer : str
    ours, theirs : float
        Seconds.
    bound : float
        What ``theirs / ours`` should reach.
    """

    work: str
    peer: str
    ours: float
    theirs: float
    bound: float

    def markdown(self) -> str:
        """Return the line."""
        figures = f"{self.ours * 1e3:.3g} ms | {self.theirs * 1e3:.3g} ms | {self.theirs / self.ours:.2f}"
        return f"| {self.work} | {self.peer} | {figures} | {self.bound:g} |"


def large(python, threads, rounds):
    """GPT-2 with 124 million parameters writes a text: against transformers, and against a reading of its weights."""
    options = {"size": "large", "context": 1024, "prompt": 16, "tokens": NEW_TOKENS, "temperature": 0}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=options),
            "transformers": Contender("transformers_generate.py", python, options),
            "bandwidth": Contender("bandwidth.py", options={"readings": READINGS, "threads": threads}),
        },
        threads=threads,
        rounds=rounds,
        units=1,
    )
    config = LanguageModelConfig.gpt2()
    weights = 4 * (count_parameters(config) - config.context_length * config.embed_dim)  # bytes
    ours = results["axone"].seconds / NEW_TOKENS
    reading = results["bandwidth"].seconds / READINGS * weights / (1 << 30)
    work = f"a token of GPT-2 124M, {NEW_TOKENS} after a prompt of 16"
    return results, [
        Row(work, "transformers, with its cache", ours, results["transformers"].seconds / NEW_TOKENS, 2),
        Row(work, "one reading of its weights at the speed of memory", ours, reading, 1 / 1.25),
    ]


def small(python, threads, rounds):
    """A small model writes a text: against sampling as nanoGPT does it."""
    options = {"size": "small", "prompt": 1, "tokens": NEW_TOKENS, "temperature": 1}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=options),
            "nanogpt": Contender("nanogpt_sample.py", python, options),
        },
        threads=threads,
        rounds=rounds,
    )
    ours, theirs = (results[name].seconds / NEW_TOKENS for name in ("axone", "nanogpt"))
    work = f"a token of the small model, {NEW_TOKENS} after a prompt of 1"
    return results, [Row(work, "PyTorch, the whole context for each token", ours, theirs, 10)]


def prefill(python, threads, rounds):
    """GPT-2 with 124 million parameters reads a prompt."""
    options = {"size": "large", "context": 1024, "prompt": 512, "tokens": 1, "temperature": 0}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=options),
            "torch": Contender("torch_prefill.py", python, options),
            "transformers": Contender("transformers_generate.py", python, options),
        },
        threads=threads,
        rounds=rounds,
    )
    ours = results["axone"].seconds
    return results, [
        Row("a prompt of 512 tokens, GPT-2 124M", "PyTorch", ours, results["torch"].seconds, 1),
        Row("a prompt of 512 tokens, GPT-2 124M", "transformers", ours, results["transformers"].seconds, 1),
    ]


def start(python, threads, rounds):
    """From the start of the process to the end of the first training step, the corpus being prepared."""
    seconds = {"axone": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        options = {"size": "small", "corpus": folder}
        _prepare(Path(folder), 65)
        contenders = {
            "axone": Contender("axone_start.py", options=options),
            "torch": Contender("torch_start.py", python, options),
        }
        for _ in range(rounds + 1):
            for name, contender in contenders.items():
                seconds[name].append(once(contender, threads=threads, units=1)[0])
    ours, theirs = (statistics.median(seconds[name][1:]) for name in contenders)  # the first fills the disk's cache
    return {}, [Row("start of the process to the first step, small model", "PyTorch", ours, theirs, 2)]


def _prepare(folder, characters):
    """Write a token file of a million characters, and the tokenizer."""
    text = "".join(chr(ord("0") + i * i % characters) for i in range(1_000_000))
    text += "".join(chr(ord("0") + i) for i in range(characters))
    tokenizer = CharTokenizer.train(text)
    tokenizer.save(folder / "tokenizer.json")
    TokenDataset.from_text(text, tokenizer, folder / "tokens.bin")


RACES = {"large": large, "small": small, "prefill": prefill, "start": start}


def main() -> None:
    """Run the races that were asked for, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help=f"of {', '.join(RACES)} (default: all)")
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="of an environment with the peers"
    )
    parser.add_argument(
        "--threads", type=int, default=cores(), metavar="N", help="for each contender (default: all cores)"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of each race (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    chosen = options.races or list(RACES)
    if unknown := set(chosen) - set(RACES):
        parser.error(f"the races are {', '.join(RACES)}, and {', '.join(sorted(unknown))} is none of them")
    rows, measured = [], {"machine": machine()}
    for name in chosen:
        print(f"{name}:", file=sys.stderr)
        results, more = RACES[name](options.peer_python, options.threads, options.rounds)
        measured[name] = as_json(results)
        rows += more
    print("| work | against | Axone | peer | ratio | bound |\n|---|---|---|---|---|---|")
    print("\n".join(row.markdown() for row in rows))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
