"""Benchmarks of a real model against transformers and llama.cpp, and of drafts, a batch and a second chat turn.

The model is one that `axone.llm.open_bundle` opens, such as the GGUF file of SmolLM2-135M-Instruct. The peers read copies
in float32 that are written to a temporary folder. `speed` is the command that runs these benchmarks.
"""

import functools
import tempfile
from pathlib import Path

from draft_tasks import FREE, GROUNDED, NOTES, RACED
from harness import Contender, race
from rows import Row

from axone.llm import open_bundle

NEW_TOKENS = 256
READINGS = 8  # of a gigabyte, per unit of the bandwidth contender
BATCH_TOKENS = 64
CORPUS_TEXTS = 4

BEGINNINGS = (
    "The capital of France is", "Once upon a time there was a king who", "def fibonacci(n):", "The three states of water are",
    "To bake bread you need", "In 1969 two astronauts", "The opposite of hot is", "My favourite season is autumn, because",
    "A triangle has three", "The largest planet is", "She opened the door and", "The recipe begins with two eggs and",
    "import numpy as np", "Dear Sir or Madam,", "The quick brown fox", "Rivers flow into the sea, and",
)  # fmt: skip


@functools.cache
def _copies(model):
    """Write the model as a folder and as GGUF files; return the temporary folder, the bundle and the GGUF files."""
    folder = tempfile.TemporaryDirectory()
    bundle, path = open_bundle(model), Path(folder.name)
    bundle.write(path / "folder")
    files = {dtype: path / f"{dtype}.gguf" for dtype in ("f32", "q8_0")}
    for dtype, file in files.items():
        bundle.write_gguf(file, dtype=dtype)
    if Path(model).suffix == ".gguf":
        files[f"as given, {Path(model).name.split('.')[-2]}"] = Path(model).absolute()
    return folder, bundle, files


def _prompt(bundle, text):
    return bundle.chat_template.encode(
        [{"role": "user", "content": text}], bundle.tokenizer, add_generation_prompt=True
    )


def _axone(options, **task):
    return Contender("axone_pretrained.py", options={"model": str(options.model.absolute()), **task})


def _transformers(options, **task):
    folder, *_ = _copies(options.model)
    task = {"model": str(Path(folder.name) / "folder"), **task}
    return Contender("transformers_pretrained.py", options.peer_python, task)


def write(options):
    """Compare decoding with transformers, llama.cpp, and one read of the weights at the speed of memory."""
    _, bundle, files = _copies(options.model)
    task = {"work": "write", "ids": _prompt(bundle, FREE["story"]), "tokens": NEW_TOKENS, "threads": options.threads}
    contenders = {
        "axone": _axone(options, **task),
        "transformers": _transformers(options, **task),
        "bandwidth": Contender("bandwidth.py", options={"readings": READINGS, "threads": options.threads}),
    }
    if options.llama_python:
        for dtype, file in files.items():
            contenders[f"llama.cpp, {dtype}"] = Contender(
                "llama_cpp_generate.py", options.llama_python, {"model": str(file), **task}
            )
    results = race(contenders, threads=options.threads, rounds=options.rounds, units=1)
    ours = results["axone"].seconds / NEW_TOKENS
    weights = 4 * bundle.model.num_parameters()  # bytes
    reading = results["bandwidth"].seconds / READINGS * weights / (1 << 30)
    work = f"decoding SmolLM2-135M, per token, {NEW_TOKENS} after a chat prompt"
    rows = [
        Row(work, "transformers, float32", ours, results["transformers"].seconds / NEW_TOKENS, 2.8),
        Row(work, "one read of its weights at the speed of memory", ours, reading, 1 / 1.3),
    ]
    for name in contenders.keys() - {"axone", "transformers", "bandwidth"}:
        bound = 1.0 if name.endswith("f32") else None
        rows.append(Row(work, name, ours, results[name].seconds / NEW_TOKENS, bound))
    return results, rows


def drafts(options):
    """Compare drafts from the text so far with no drafts: rewritten texts, changed code, summaries and a free story."""
    _, bundle, _ = _copies(options.model)
    results, rows = {}, []
    for name in RACED:
        text, bound = (GROUNDED[name], 2.0) if name in GROUNDED else (FREE[name], 0.95)
        task = {"work": "write", "ids": _prompt(bundle, text), "tokens": NEW_TOKENS, "ends": True}
        found = race(
            {
                f"{name}, {kind}": _axone(options, **task, draft=draft)
                for kind, draft in (("on", "prompt"), ("off", None))
            },
            threads=options.threads,
            rounds=options.rounds,
            units=1,
        )
        results |= found
        on, off = (found[f"{name}, {kind}"].seconds for kind in ("on", "off"))
        rows.append(Row(f"SmolLM2-135M, drafts from the prompt, {name}, a whole answer", "no drafts", on, off, bound))
    return results, rows


def batch(options):
    """Compare the continuation of 1, 4 and 16 prompts together with transformers."""
    _, bundle, _ = _copies(options.model)
    results, rows = {}, []
    for count, bound in ((1, None), (4, None), (16, 1.3)):
        texts = list(BEGINNINGS[:count])
        task = {
            "work": "batch", "texts": texts, "ids": [bundle.tokenizer.encode(text) for text in texts],
            "tokens": BATCH_TOKENS, "threads": options.threads,
        }  # fmt: skip
        found = race(
            {f"axone, {count}": _axone(options, **task), f"transformers, {count}": _transformers(options, **task)},
            threads=options.threads,
            rounds=options.rounds,
            units=1,
        )
        results |= found
        ours, theirs = (found[f"{name}, {count}"].seconds / count / BATCH_TOKENS for name in ("axone", "transformers"))
        rows.append(Row(f"SmolLM2-135M, {count} prompts together, per token", "transformers", ours, theirs, bound))
    return results, rows


def prompt(options):
    """Compare the prefill of 512 tokens with transformers."""
    _, bundle, _ = _copies(options.model)
    task = {"work": "prompt", "ids": _prompt(bundle, NOTES * 6)[:512], "tokens": 1, "threads": options.threads}
    results = race(
        {"axone": _axone(options, **task), "transformers": _transformers(options, **task)},
        threads=options.threads,
        rounds=options.rounds,
    )
    ours, theirs = (results[name].seconds for name in ("axone", "transformers"))
    return results, [Row("a prompt of 512 tokens, SmolLM2-135M", "transformers", ours, theirs, 1.3)]


def chat(options):
    """Compare the time to the first token of a second chat turn with that of the first, whose prompt has 1,000 tokens."""
    task = {"work": "chat", "text": NOTES * 7, "history": 1000}
    results = race(
        {name: _axone(options, **task, turn=name) for name in ("second", "first")},
        threads=options.threads,
        rounds=options.rounds,
    )
    ours, theirs = (results[name].seconds for name in ("second", "first"))
    work = "SmolLM2-135M, first token of the second turn, 1,000 tokens of history"
    return results, [Row(work, "first reading of the history", ours, theirs, 20)]


def corpus(options):
    """Compare drafts from the corpus of a run with no drafts."""
    task = {"model": str(options.run.absolute()), "work": "corpus", "tokens": NEW_TOKENS, "texts": CORPUS_TEXTS}
    results = race(
        {
            name: Contender("axone_pretrained.py", options={**task, "draft": draft})
            for name, draft in (("on", "corpus"), ("off", None))
        },
        threads=options.threads,
        rounds=options.rounds,
        units=1,
    )
    on, off = (results[name].seconds / NEW_TOKENS / CORPUS_TEXTS for name in ("on", "off"))
    work = "decoding the medium model, per token, drafts from its corpus, temperature 0.8"
    return results, [Row(work, "no drafts", on, off, 1.3)]


RACES = {
    "real-write": write, "real-drafts": drafts, "real-batch": batch, "real-prompt": prompt, "real-chat": chat,
    "corpus-drafts": corpus,
}  # fmt: skip
NEEDS = {name: "run" if name == "corpus-drafts" else "model" for name in RACES}
"""The option without which a race cannot run."""
