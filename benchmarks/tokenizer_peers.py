"""Live comparison of axone-tokenizer with Hugging Face, tiktoken, transformers and sentencepiece.

    PYTHONPATH=packages/tokenizer/src python benchmarks/tokenizer_peers.py patterns --count 1000
    PYTHONPATH=packages/tokenizer/src python benchmarks/tokenizer_peers.py folders MODEL_FOLDER ... --text FILE ...
    PYTHONPATH=packages/tokenizer/src python benchmarks/tokenizer_peers.py gguf SmolLM2.gguf --text FILE ...
    PYTHONPATH=packages/tokenizer/src python benchmarks/tokenizer_peers.py sentencepiece tokenizer.model --text FILE
    ... PYTHONPATH=packages/tokenizer/src python benchmarks/tokenizer_peers.py transformers --text FILE ...

- patterns: random regular expressions, split by `regex`, Oniguruma (Hugging Face) and fancy-regex (tiktoken).
- folders: ids of each `tokenizer.json` against Hugging Face, on random texts and on whole files.
- gguf: ids of byte-level metadata in a GGUF file against Hugging Face, in the form of the original file.
- sentencepiece: ids of a SentencePiece model, as GGUF metadata, against the package `sentencepiece`.
- transformers: ids of `AutoTokenizer` on folders that are written here, for every kind of tokenizer.

The interpreter needs numpy, regex and the peers: tokenizers, tiktoken, transformers, sentencepiece, gguf.
"""

import argparse
import functools
import json
import os
import random
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import regex

from axone.tokenizer import BPETokenizer, CharTokenizer, TokenizerError, from_gguf, load
from axone.tokenizer.bpe import patterns as known
from axone.tokenizer.bpe.portable_regex import to_portable, to_regex

CHARACTERS = list(
    "aAbBsStTkKlLeErR'1290 .,-_&|~^$()[]{}*+?/\\\n\r\t#\"é\u017f\u212aß\ufb06中文の\u200d\u00a0²½Ⅷ\u0301я😀\x85\u2028\ufeff"
)
CLASSES = [
    *[r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\p{L}", r"\p{N}", r"\p{Lu}", r"\p{Ll}", r"\p{M}", r"\p{P}"],
    *[r"\P{L}", r"\p{Han}", r"\p{S}", r"\p{Nd}", r"\p{Alphabetic}", r"\pL"],
]  # fmt: skip
ODD = [
    *["'s", "'LL", "'\u017f", "  ", "   ", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "123", "٣٤", "½"],
    *["...", "{\n    ", "e\u0301\u0323", "😀", "👨\u200d👩\u200d👧", "🇫🇷", "\U00020000", "\ufeff", "Å\u212b", "▁", "▁▁", "<0x0A>"],
]  # fmt: skip
BYTES = {bytes((byte,)): byte for byte in range(256)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=["patterns", "folders", "gguf", "sentencepiece", "transformers"])
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="model folders or files of the check")
    parser.add_argument("--text", nargs="*", type=Path, default=[], help="files that are encoded whole and in parts")
    parser.add_argument("--count", type=int, default=3000, help="number of random texts or patterns")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    files = [path.read_bytes().decode() for path in options.text]
    globals()[f"check_{options.check}"](rng, options, files)


def random_texts(rng, count, files, special=()):
    assigned = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in {"Cn", "Cs", "Co"}]
    texts = [" " * n for n in range(40)] + ["\n" * n + "a" for n in range(20)]
    while len(texts) < count:
        parts = []
        for _ in range(rng.randint(1, 14)):
            kind = rng.random()
            if kind < 0.25 or not files:
                parts.append(rng.choice(assigned))
            elif kind < 0.5:
                parts.append(rng.choice(ODD))
            elif kind < 0.58 and special:
                parts.append(rng.choice(special))
            else:
                file = rng.choice(files)
                start = rng.randrange(len(file))
                parts.append(file[start : start + rng.randint(1, 30)])
        texts.append("".join(parts))
    return texts


def compare(name, ours, theirs, texts, files):
    """Print the number of texts with equal ids, and whether whole files have equal ids."""
    different = [text for text in texts if ours(text) != theirs(text)]
    whole = sum(ours(file) == theirs(file) for file in files)
    print(
        f"{name:30} {len(texts) - len(different):,} of {len(texts):,} texts, {whole} of {len(files)} files", flush=True
    )
    for text in different[:3]:
        print(f"  {text!r:.200}\n    {ours(text)[:60]}\n    {theirs(text)[:60]}")


def encoder(tokenizer):
    return lambda text: tokenizer.encode(text, allowed_special="all")


def check_folders(rng, options, files):
    import tokenizers

    for folder in options.paths:
        try:
            ours = load(folder)
        except TokenizerError as error:
            print(f"{folder.name:30} refused: {error}")
            continue
        peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = [*[*ours.special_tokens][:30], *ours.added_tokens]
        texts = random_texts(rng, options.count, files, special)
        compare(folder.name, encoder(ours), lambda text: peer.encode(text, add_special_tokens=False).ids, texts, files)


def check_gguf(rng, options, files):
    """Compare the pre-tokenizer `smollm` with the steps of its original file."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    for path in options.paths:
        metadata = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
        ours = from_gguf(metadata)
        tokens = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
        peer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        digits, byte_level = (
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        )
        peer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
        peer.add_special_tokens([AddedToken(token, normalized=False) for token in ours.special_tokens])
        texts = random_texts(rng, options.count, files, [*ours.special_tokens])
        compare(path.name, encoder(ours), lambda text: peer.encode(text).ids, texts, files)


def check_sentencepiece(rng, options, files):
    import sentencepiece

    for path in options.paths:
        peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
        ids = range(peer.vocab_size())
        types = [
            2
            if peer.is_unknown(i)
            else 3
            if peer.is_control(i)
            else 6
            if peer.is_byte(i)
            else 5
            if peer.is_unused(i)
            else 1
            for i in ids
        ]
        values = {"model": "llama", "tokens": [peer.id_to_piece(i) for i in ids], "token_type": types}
        values |= {"scores": [peer.get_score(i) for i in ids]}
        ours = from_gguf({f"tokenizer.ggml.{name}": value for name, value in values.items()})
        texts = [text.replace("\x00", "") for text in random_texts(rng, options.count, files)]
        compare(path.name, ours.encode_ordinary, peer.encode, texts, files)


def check_transformers(rng, options, files):
    """Write each kind of tokenizer with a config.json of GPT-2, whose own tokenizer class must not be used."""
    from transformers import AutoTokenizer

    corpus = files[0][:200_000] if files else "the quick brown fox " * 100
    kinds = {
        "characters": CharTokenizer.train([corpus, *ODD, *map(chr, range(32, 127))], unknown="<unk>"),
        "no pattern": BPETokenizer.train(corpus[:3000], 400, pattern=None),
        "custom pattern": BPETokenizer.train(corpus, 600, pattern=r"\w+|\s+|[^\w\s]+"),
    }
    for name, pattern in (("gpt2", "gpt2"), ("gpt4", "gpt4"), ("llama3", known.LLAMA3), ("smollm", known.SMOLLM)):
        kinds[name] = BPETokenizer.train(corpus, 600, pattern=pattern, special_tokens=["<|endoftext|>"])
    texts = random_texts(rng, min(options.count, 500), files)
    for name, tokenizer in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder)
            config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
            for file, content in (("tokenizer_config.json", tokenizer.tokenizer_config()), ("config.json", config)):
                (Path(folder) / file).write_text(json.dumps(content), encoding="utf-8")
            peer = AutoTokenizer.from_pretrained(folder)
            compare(name, tokenizer.encode, lambda text: peer.encode(text, add_special_tokens=False), texts, ())


def check_patterns(rng, options, files):
    """Split texts by random patterns: each engine must split alike wherever the pattern is accepted."""
    import tiktoken
    from tokenizers import Regex, pre_tokenizers

    del files
    counts = Counter()
    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the peers print panics of their engines
    for _ in range(options.count):
        source = random_alternation(rng, 0)
        texts = ["".join(rng.choices(CHARACTERS, k=rng.randint(1, 25))) for _ in range(30)]
        for dialect in ("oniguruma", "fancy-regex", "regex"):
            try:
                pattern = to_portable(source, dialect)
            except TokenizerError:
                counts[f"{dialect} refused"] += 1
                continue
            counts[f"{dialect} {'rewritten' if pattern != source else 'unchanged'}"] += 1
            compiled = regex.compile(to_regex(pattern), regex.V1)
            for spelling in {pattern, source}:
                if dialect == "oniguruma" or spelling == pattern:
                    split = pre_tokenizers.Split(Regex(spelling), "isolated").pre_tokenize_str
                    theirs = functools.partial(pieces_of, split)
                    counts += same(pieces(compiled), theirs, texts, (dialect, "Oniguruma", source, spelling))
                if dialect == "fancy-regex" or spelling == pattern:
                    peer = tiktoken.Encoding("x", pat_str=spelling, mergeable_ranks=BYTES, special_tokens={})
                    theirs = functools.partial(text_of, peer)
                    counts += same(matched(compiled), theirs, texts, (dialect, "fancy-regex", source, spelling))
    os.dup2(stderr, 2)
    for name, number in sorted(counts.items()):
        print(f"{name:30} {number:,}")


def same(ours, theirs, texts, case):
    counts = Counter()
    for text in texts:
        try:
            equal = ours(text) == theirs(text)
        except TimeoutError:
            counts["patterns over the time limit"] += 1
            break
        except BaseException as error:  # noqa: BLE001 - panics of the peers do not derive from Exception
            counts[f"panics of {case[1]} ({type(error).__name__})"] += 1
            break
        counts[f"texts equal in {case[1]}" if equal else f"texts DIFFERENT in {case[1]}"] += 1
        if not equal:
            print(*case, repr(text), flush=True)
            break
    return counts


def pieces_of(split, text):
    return [piece for piece, _ in split(text)]


def text_of(encoding, text):
    return encoding.decode(encoding.encode_ordinary(text))


def pieces(compiled):
    def split(text):
        found, start = [], 0
        for match in compiled.finditer(text, timeout=2):
            found += [text[start : match.start()], match.group()]
            start = match.end()
        return [piece for piece in (*found, text[start:]) if piece]

    return split


def matched(compiled):
    return lambda text: "".join(match.group() for match in compiled.finditer(text, timeout=2))


def random_alternation(rng, depth):
    return "|".join(random_sequence(rng, depth) for _ in range(rng.randint(1, 3 - min(depth, 1))))


def random_sequence(rng, depth):
    return "".join(random_item(rng, depth) for _ in range(rng.randint(1, 3)))


def random_item(rng, depth):
    item, kind = random_atom(rng, depth), rng.random()
    if kind < 0.45:
        return item + rng.choice(
            ["?", "*", "+", "{2}", "{1,3}", "{2,}", "{1,3}+", "++", "?+", "*+", "+?", "??", "{1,2}?"]
        )
    if kind < 0.5:
        return rng.choice(["(?=", "(?!", "(?<=", "(?<!"]) + rng.choice([r"\s", r"\S", random_set(rng, 0), "a"]) + ")"
    return rng.choice([r"\A", r"\z", r"\s++$", "$", "^"]) if kind < 0.52 else item


def random_atom(rng, depth):
    kind = rng.random()
    if kind < 0.3:
        return random_literal(rng)
    if kind < 0.5:
        return rng.choice(CLASSES)
    if kind < 0.75:
        return random_set(rng, 0)
    if kind < 0.8:
        return "."
    if depth < 2 and kind < 0.95:
        return rng.choice(["(?:", "(", "(?>"]) + random_alternation(rng, depth + 1) + ")"
    letters = ["'", "s", "l", "r", "v", "e", "S", "[sdmt]", "k", " "]
    return "(?i:" + "|".join("".join(rng.choices(letters, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 2))) + ")"


def random_literal(rng):
    character = rng.choice(CHARACTERS)
    if character in ".^$()[]{}*+?\\|" or (character in "-/#&~\"'_ " and rng.random() < 0.3):
        return f"\\{character}"
    return r"\n" if character == "\n" else character


def random_set(rng, depth):
    members = "".join(random_member(rng, depth) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.2:
        members += "&&" + (random_set(rng, depth + 1) if depth < 2 else rng.choice(CLASSES))
    return f"[{rng.choice(['', '^'])}{members}]"


def random_member(rng, depth):
    kind = rng.random()
    if kind < 0.45:
        literal = random_literal(rng)
        return f"\\{literal}" if literal in "-&~" else literal
    if kind < 0.75:
        return rng.choice(CLASSES)
    if kind < 0.9 or depth == 2:
        return rng.choice(["a-z", "A-Z", "0-9", r"\x20-/", "一-龥", "א-ת"])
    return random_set(rng, depth + 1)


if __name__ == "__main__":
    main()
