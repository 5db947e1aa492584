"""Training and encoding speed of axone-tokenizer against Hugging Face tokenizers, rustbpe and tiktoken.

Every figure is the median over new processes, one per library and run, in turns, so that other load affects all
libraries alike. All get the same text and train the same vocabulary with GPT-2's pattern; encoding starts with an
empty cache, on one long text. Every library may use all cores. Peak memory is the maximum of the whole process, with
interpreter and text, plus that of its children.

    python benchmarks/tokenizer.py tinyshakespeare.txt:4096 source.txt:8192 --peer-python ~/peers/bin/python

`--make-source FILE` writes the standard library of this interpreter, with its tests, as one text. Peers: tokenizers,
tiktoken, rustbpe.
"""

import argparse
import base64
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TASKS = {"train": ("axone", "tokenizers", "rustbpe"), "encode": ("axone", "tokenizers", "tiktoken")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", metavar="TEXT:VOCAB_SIZE", help="text file and vocabulary size")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers installed")
    parser.add_argument("--runs", type=int, default=5, help="processes per figure")
    parser.add_argument("--task", choices=TASKS, help="run this task only")
    parser.add_argument("--lines", action="store_true", help="train on the lines of the text instead of one text")
    parser.add_argument(
        "--make-source", type=Path, metavar="FILE", help="file to which the source of the standard library is written"
    )
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(*options.one, lines=options.lines)
        return
    if options.make_source:
        make_source(options.make_source)
        return
    for corpus in options.corpora:
        path, _, size = corpus.rpartition(":")
        compare(Path(path), int(size), options)


def compare(path, vocab_size, options):
    megabytes = path.stat().st_size / 1e6
    print(f"\n{path.name}: {megabytes:.1f} MB, {vocab_size} tokens, medians of {options.runs}")
    with tempfile.TemporaryDirectory() as folder:
        # A process of its own: the peak of this process would count as that of its children.
        subprocess.run(
            [sys.executable, __file__, "--one", "prepare", "axone", path, str(vocab_size), folder], check=True
        )
        for task, libraries in TASKS.items():
            if options.task not in {task, None}:
                continue
            results = {library: [] for library in libraries}
            for _ in range(options.runs):
                for library in libraries:
                    python = sys.executable if library == "axone" else options.peer_python
                    command = [python, __file__, "--one", task, library, path, str(vocab_size), folder]
                    command += ["--lines"] if options.lines else []
                    finished = subprocess.run(command, check=True, capture_output=True, text=True)
                    results[library].append(json.loads(finished.stdout))
            report(task, results, megabytes)


def report(task, results, megabytes):
    counts = {library: runs[0]["tokens"] for library, runs in results.items()}
    medians = {library: statistics.median(run["seconds"] for run in runs) for library, runs in results.items()}
    for library, seconds in medians.items():
        peak = statistics.median(run["peak"] for run in results[library])
        print(
            f"  {task:6} {library:10} {seconds:8.3f} s {megabytes / seconds:7.1f} MB/s  {peak:6.0f} MB  "
            f"{seconds / medians['axone']:6.2f} times axone  ({counts[library]} tokens)"
        )


def prepare(path, vocab_size, folder):
    """Train the vocabulary for the encoding task, and write it for all libraries."""
    from axone.tokenizer import BPETokenizer

    tokenizer = BPETokenizer.train(read(path), vocab_size)
    tokenizer.save(folder)
    ranks = {base64.b64encode(token).decode(): rank for token, rank in tokenizer.to_tiktoken().items()}
    (Path(folder) / "ranks.json").write_text(json.dumps(ranks), encoding="utf-8")


def run_one(task, library, path, vocab_size, folder, *, lines):
    """Run one task in this process and print its time and memory."""
    if task == "prepare":
        prepare(path, int(vocab_size), folder)
        return
    text = read(path)
    texts = text.splitlines(keepends=True) if lines else [text]
    work = (train if task == "train" else encode)(library, texts, text, int(vocab_size), Path(folder))
    start = time.perf_counter()
    tokens = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_megabytes(), "tokens": tokens}))


def train(library, texts, _text, vocab_size, _folder):
    """Return a function that trains on the texts; libraries are imported before the timing."""
    if library == "axone":
        from axone.tokenizer import BPETokenizer

        return lambda: BPETokenizer.train(texts, vocab_size).vocab_size
    if library == "rustbpe":
        import rustbpe

        tokenizer = rustbpe.Tokenizer()
        return lambda: tokenizer.train_from_iterator(texts, vocab_size, pattern=GPT2) or tokenizer.vocab_size
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    return lambda: tokenizer.train_from_iterator(texts, trainer) or tokenizer.get_vocab_size()


def encode(library, _texts, text, _vocab_size, folder):
    """Return a function that encodes the text with the prepared vocabulary."""
    if library == "axone":
        from axone.tokenizer import BPETokenizer

        tokenizer = BPETokenizer.load(folder)
        return lambda: len(tokenizer.encode(text))
    if library == "tiktoken":
        import tiktoken

        ranks = json.loads((folder / "ranks.json").read_text(encoding="utf-8"))
        ranks = {base64.b64decode(token): rank for token, rank in ranks.items()}
        encoding = tiktoken.Encoding("x", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
        return lambda: len(encoding.encode_ordinary(text))
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda: len(tokenizer.encode(text).ids)


def peak_megabytes():
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def read(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return file.read()


def make_source(target):
    root = Path(sysconfig.get_path("stdlib"))
    parts = []
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            try:
                parts.append(path.read_bytes().decode("utf-8"))
            except UnicodeDecodeError:  # test files in other encodings
                continue
    target.write_bytes("\n".join(parts).encode("utf-8"))
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
