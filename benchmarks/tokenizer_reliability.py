"""Long tests of the tokenizer: a million round trips, 100,000 texts against the live peers, and hostile input.

    python benchmarks/tokenizer_reliability.py --peer-python ~/peers/bin/python mixed_scripts.txt some_source.txt

- Round trips: `decode(encode(text)) == text` for texts of all planes, controls, combining marks, emoji and mixed line
  ends, and for bytes.
- Exchange: vocabularies trained here are read by tiktoken as ranks and by Hugging Face as files; one that Hugging
  Face trained is read here as a file, one that rustbpe trained as ranks. All ids must be equal, for random texts of
  the characters in this Python's Unicode version (14 in Python 3.11, on which all peers agree) and for the given
  files.
- Hostile input: time for twice the text, for one word and for runs of one character, up to a million characters,
  encoding and training.

Peers: tokenizers, tiktoken, rustbpe. `tokenizer_peers.py` compares patterns and real models.
"""

import argparse
import base64
import json
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import numpy as np

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
HOSTILE = {
    "a": "a",
    "space": " ",
    "newline": "\n",
    "^": "^",
    "digits": "7",
    "'": "'",
    "alternating": "ab",
    "words": "the dog's 12 ",
    "one long word": "internationalization",
}
PARTS = [
    *["'s", "'LL", " ", "  ", "\n", "\r\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u00a0", "\u200b", "\u2028"],
    *["\u3000", "\ufeff", "\ufffe", "e\u0301\u0323", "\u0301", "👋🏽", "👨\u200d👩\u200d👧", "🇫🇷", "\U0001d538", "\U000e0041"],
    *["\U0010ffff", "\ue000", "한", "中文", "नि", "ع", "٣", "Ⅷ"],
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="files that are encoded whole")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers installed")
    parser.add_argument("--only", choices=("round-trips", "exchange", "hostile"), help="run this test only")
    parser.add_argument("--round-trips", type=int, default=1_000_000)
    parser.add_argument("--exchanges", type=int, default=100_000)
    parser.add_argument("--longest", type=int, default=1_000_000, help="characters of the longest hostile input")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        answer(*options.peer)
        return
    if options.only in {"round-trips", None}:
        round_trips(options.round_trips)
    if options.only in {"exchange", None}:
        exchange(options)
    if options.only in {"hostile", None}:
        hostile(options.longest)


def random_text(rng):
    parts = []
    for _ in range(rng.randint(0, 16)):
        kind = rng.random()
        if kind < 0.4:
            parts.append(chr(rng.choice((rng.randrange(0x80), rng.randrange(0x800)))))
        elif kind < 0.7:
            parts.append(rng.choice(PARTS))
        else:
            point = rng.randrange(rng.choice((0x3000, 0x10000, 0x20000, 0x110000)))
            parts.append(chr(point) if not 0xD800 <= point < 0xE000 else "x")
    return "".join(parts)


def round_trips(number):
    from axone.tokenizer import BPETokenizer

    rng = random.Random(30)
    texts = [random_text(rng) for _ in range(number)]
    for pattern in ("gpt2", "gpt4", None):
        tokenizer = BPETokenizer.train(texts[:20_000], 2000, pattern=pattern)
        one_by_one = sum(tokenizer.decode(tokenizer.encode(text)) == text for text in texts[: number // 10])
        together = sum(
            tokenizer.decode(ids) == text
            for start in range(0, number, 10_000)
            for text, ids in zip(texts[start : start + 10_000], tokenizer.encode_batch(texts[start : start + 10_000]))
        )
        print(
            f"round trips  {pattern or 'none':5} {together:,} of {number:,} in batches, {one_by_one:,} of "
            f"{number // 10:,} singly"
        )
        stream = sum(streamed(tokenizer, text) for text in texts[: number // 10])
        print(f"streams      {pattern or 'none':5} {stream:,} of {number // 10:,} equal, without incomplete characters")
    data = [rng.randbytes(rng.randint(0, 40)) for _ in range(number // 10)]
    print(f"bytes        {sum(tokenizer.decode_bytes(each) == each for each in data):,} of {len(data):,}", flush=True)


def streamed(tokenizer, text):
    decoder = tokenizer.stream_decoder()
    shown = "".join(map(decoder.decode, tokenizer.encode(text)))
    return shown == text and decoder.flush() == ""


def exchange(options):
    from axone.tokenizer import BPETokenizer

    rng = random.Random(31)
    assigned = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in {"Cn", "Cs", "Co"}]
    texts = ["".join(rng.choices(assigned, k=rng.randint(1, 20))) for _ in range(options.exchanges // 2)]
    known = set(assigned)
    while len(texts) < options.exchanges:
        texts.append("".join(character for character in random_text(rng) if character in known))
    print(f"exchange     {len(texts):,} texts of characters in Unicode {unicodedata.unidata_version}")
    files = {path.name: path.read_bytes().decode() for path in options.texts}
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        corpus = [*texts[:20_000], *(text[:2_000_000] for text in files.values())]
        (folder / "texts.json").write_text(json.dumps([*texts, *files.values()]), encoding="utf-8")
        (folder / "corpus.json").write_text(json.dumps(corpus), encoding="utf-8")
        tokenizers = {}
        for pattern in ("gpt2", "gpt4"):
            tokenizer = tokenizers[pattern] = BPETokenizer.train(corpus, 8192, pattern=pattern)
            tokenizer.save(folder / f"{pattern}.json")
            write_ranks(folder / f"{pattern}.ranks", tokenizer.pattern, tokenizer.to_tiktoken())
        subprocess.run([options.peer_python, __file__, "--peer", "all", folder], check=True)
        tokenizers["hf"] = BPETokenizer.load(folder / "hf.json")
        pattern, ranks = read_ranks(folder / "rust.ranks")
        tokenizers["rust"] = BPETokenizer.from_tiktoken(ranks, pattern)
        for name in sorted(path.stem for path in folder.glob("*.npz")):
            tokenizer = tokenizers[name.split("-")[0]]
            with np.load(folder / f"{name}.npz") as expected:
                ids = np.split(expected["ids"], expected["counts"].cumsum()[:-1])
            ours = [np.array(each) for each in tokenizer.encode_batch(texts)]
            equal = sum(np.array_equal(a, b) for a, b in zip(ours, ids))
            print(f"exchange     {name:18} {equal:,} of {len(texts):,}", flush=True)
            for (file, text), theirs in zip(files.items(), ids[len(texts) :]):
                same = np.array_equal(tokenizer.encode_to_array(text), theirs)
                print(
                    f"exchange     {name:18} {file}: {len(theirs):,} ids {'equal' if same else 'NOT EQUAL'}", flush=True
                )


def answer(_, folder):
    """Encode with the live peers, in their interpreter."""
    import rustbpe
    import tiktoken
    import tokenizers

    folder = Path(folder)
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    corpus = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    hf = tokenizers.Tokenizer(tokenizers.models.BPE())
    hf.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    hf.train_from_iterator(
        corpus, tokenizers.trainers.BpeTrainer(vocab_size=8192, initial_alphabet=alphabet, show_progress=False)
    )
    hf.save(str(folder / "hf.json"))
    rust = rustbpe.Tokenizer()
    rust.train_from_iterator(corpus, 8192, pattern=GPT2)
    write_ranks(folder / "rust.ranks", GPT2, {bytes(token): rank for token, rank in rust.get_mergeable_ranks()})
    for path in folder.glob("*.json"):
        if path.stem not in {"texts", "corpus"}:
            opened = tokenizers.Tokenizer.from_file(str(path))
            save(folder / f"{path.stem}-tokenizers.npz", [opened.encode(text).ids for text in texts])
    for path in folder.glob("*.ranks"):
        pattern, ranks = read_ranks(path)
        encoding = tiktoken.Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        save(folder / f"{path.stem}-tiktoken.npz", [encoding.encode_ordinary(text) for text in texts])


def write_ranks(path, pattern, ranks):
    spelled = {base64.b64encode(token).decode(): rank for token, rank in ranks.items()}
    path.write_text(json.dumps({"pattern": pattern, "ranks": spelled}), encoding="utf-8")


def read_ranks(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["pattern"], {base64.b64decode(token): rank for token, rank in content["ranks"].items()}


def save(path, encoded):
    joined = [id for ids in encoded for id in ids]
    np.savez(path, ids=np.array(joined, dtype=np.int32), counts=np.array([len(ids) for ids in encoded]))


def hostile(longest):
    from axone.tokenizer import BPETokenizer

    print("hostile      seconds to encode half of a text and all of it, their ratio, and the same for training")
    for pattern in ("gpt2", "gpt4", None):
        tokenizer = BPETokenizer.train(["".join(HOSTILE.values()) * 50, "the dog's 12 dogs\n\n "], 600, pattern=pattern)
        for name, unit in HOSTILE.items():
            times = []
            for action in (tokenizer.encode, lambda text: BPETokenizer.train(text, 400, pattern=pattern)):
                for size in (longest // 2, longest):
                    text = (unit * size)[:size]
                    start = time.process_time()
                    action(text)
                    times.append(time.process_time() - start)
            half, full, half_train, full_train = times
            print(
                f"hostile      {pattern or 'none':5} {name:14} {half:6.2f} {full:6.2f} {full / half:5.2f}   "
                f"{half_train:6.2f} {full_train:6.2f} {full_train / half_train:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
