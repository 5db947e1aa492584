"""Benchmarks of decoding, prefill and start-up against PyTorch and transformers.

All models have random weights, because the time does not depend on them. `speed` is the command that runs these
benchmarks.
"""

import statistics
import tempfile
from pathlib import Path

from harness import Contender, once, race
from rows import Row

from axone.llm import LanguageModelConfig, TokenDataset, count_parameters
from axone.tokenizer import CharTokenizer

NEW_TOKENS = 256
READINGS = 8  # of a gigabyte, per unit of the bandwidth contender


def large(options):
    """Compare decoding of GPT-2 with transformers, and with one read of its weights at the speed of memory."""
    task = {"size": "large", "context": 1024, "prompt": 16, "tokens": NEW_TOKENS, "temperature": 0}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=task),
            "transformers": Contender("transformers_generate.py", options.peer_python, task),
            "bandwidth": Contender("bandwidth.py", options={"readings": READINGS, "threads": options.threads}),
        },
        threads=options.threads,
        rounds=options.rounds,
        units=1,
    )
    config = LanguageModelConfig.gpt2()
    weights = 4 * (count_parameters(config) - config.context_length * config.embed_dim)  # bytes
    ours = results["axone"].seconds / NEW_TOKENS
    reading = results["bandwidth"].seconds / READINGS * weights / (1 << 30)
    work = f"decoding GPT-2 124M, per token, {NEW_TOKENS} after a prompt of 16"
    return results, [
        Row(work, "transformers, with its cache", ours, results["transformers"].seconds / NEW_TOKENS, 2),
        Row(work, "one read of its weights at the speed of memory", ours, reading, 1 / 1.25),
    ]


def small(options):
    """Compare decoding of a small model with nanoGPT's sampling, which has no KV cache."""
    task = {"size": "small", "prompt": 1, "tokens": NEW_TOKENS, "temperature": 1}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=task),
            "nanogpt": Contender("nanogpt_sample.py", options.peer_python, task),
        },
        threads=options.threads,
        rounds=options.rounds,
    )
    ours, theirs = (results[name].seconds / NEW_TOKENS for name in ("axone", "nanogpt"))
    work = f"decoding the small model, per token, {NEW_TOKENS} after a prompt of 1"
    return results, [Row(work, "PyTorch, the whole context for each token", ours, theirs, 10)]


def prefill(options):
    """Compare the prefill of GPT-2 with PyTorch and transformers."""
    task = {"size": "large", "context": 1024, "prompt": 512, "tokens": 1, "temperature": 0}
    results = race(
        {
            "axone": Contender("axone_generate.py", options=task),
            "torch": Contender("torch_prefill.py", options.peer_python, task),
            "transformers": Contender("transformers_generate.py", options.peer_python, task),
        },
        threads=options.threads,
        rounds=options.rounds,
    )
    ours = results["axone"].seconds
    return results, [
        Row("prefill of 512 tokens, GPT-2 124M", "PyTorch", ours, results["torch"].seconds, 1),
        Row("prefill of 512 tokens, GPT-2 124M", "transformers", ours, results["transformers"].seconds, 1),
    ]


def start(options):
    """Compare the time from the start of the process to the end of the first training step, with a prepared corpus."""
    seconds = {"axone": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        task = {"size": "small", "corpus": folder}
        _prepare(Path(folder), 65)
        contenders = {
            "axone": Contender("axone_start.py", options=task),
            "torch": Contender("torch_start.py", options.peer_python, task),
        }
        for _ in range(options.rounds + 1):
            for name, contender in contenders.items():
                seconds[name].append(once(contender, threads=options.threads, units=1)[0])
    ours, theirs = (statistics.median(seconds[name][1:]) for name in contenders)  # the first run fills the page cache
    return {}, [Row("start of the process to the first step, small model", "PyTorch", ours, theirs, 2)]


def _prepare(folder, characters):
    """Write a token file of a million characters, and the tokenizer."""
    text = "".join(chr(ord("0") + i * i % characters) for i in range(1_000_000))
    text += "".join(chr(ord("0") + i) for i in range(characters))
    tokenizer = CharTokenizer.train(text)
    tokenizer.save(folder / "tokenizer.json")
    TokenDataset.from_text(text, tokenizer, folder / "tokens.bin")


RACES = {"write-large": large, "write-small": small, "prompt": prefill, "start": start}
