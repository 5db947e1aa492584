"""Freeze the ids of other libraries for 2,000 texts: run by hand with their interpreter, never by the tests.

    PYTHONPATH=packages/tokenizer/src python packages/tokenizer/tests/frozen/make.py

It needs Hugging Face tokenizers, tiktoken and rustbpe, and a Python whose Unicode is version 14 (3.11), for texts of
characters on which all versions since agree. It writes, beside itself,

- ``hf_*.json``: tokenizers trained and written by Hugging Face, in the forms of GPT-2, Llama-3, Qwen2 and SmolLM;
- ``rust_*.json``: ranks trained by rustbpe, for tiktoken;
- ``axone_*.json``: tokenizers trained and written here, which Hugging Face opened;
- ``samples.npz``: the texts, the corpus, and the ids of the peers for each file.
"""

import base64
import functools
import importlib
import io
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from axone.tokenizer import BPETokenizer
from axone.tokenizer.bpe.patterns import GPT4, LLAMA3, QWEN2

HERE = Path(__file__).parent
VOCAB_SIZE = 600
SPECIAL = ["<|endoftext|>", "<|end|>"]
SCRIPTS = [
    *["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "éèüößñçåøłžđ", "абвгдежзиклмнопрстуфхцчшы", "αβγδεζηθικλμνξοπρστυφχψω"],
    *["אבגדהוזחטיכלמנסעפצקרשת", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "अआइउएकखगघचछजतदनपबमयरलवशसह\u093e\u093f\u0940\u0947\u094d", "กขคงจชดตนบปมยรลวสหอ\u0e31\u0e34\u0e35\u0e48\u0e49"],
    *["いろはにほへとちりぬるをわかよたれそつねならむ", "アイウエオカキクケコサシスセソ", "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往", "가나다라마바사아자차카타파하", "აბგდევზთიკლმნო", "ⴰⴱⴳⴷ", "አበገደሀወ"],
]  # fmt: skip
ODD = [
    *["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'\u017f", "''", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000"],
    *["\u2028", "\x85", "\x1c", "1", "23", "456", "7890", "٣٤", "Ⅷ", "½", "!", "?!", "...", "_", "(x)", "{\n    ", "\u200d", "e\u0301\u0323", "\u0344"],
    *["😀", "👋🏽", "👨\u200d👩\u200d👧", "🇫🇷", "\U0001d538", "\U00010348", "\U00020000", "\ufeff", "\x00", "\U0010ffff", "\ue000", "Å\u212b"],
]  # fmt: skip


def make_corpus(rng: random.Random) -> str:
    words = [["".join(rng.choices(script, k=rng.randint(1, 6))) for _ in range(60)] for script in SCRIPTS]
    lines = []
    for _ in range(1500):
        script = rng.choice(words)
        lines.append(
            " ".join(script[min(int(rng.expovariate(0.1)), 59)] for _ in range(8))
            + rng.choice([".\n", "\n", ", ", " 12 ", "'s "])
        )
    return "".join(lines)


def make_texts(rng: random.Random, corpus: str) -> list[str]:
    assigned = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in {"Cn", "Cs", "Co"}]
    texts = []
    for _ in range(2000):
        parts: list[str] = []
        for _ in range(rng.randint(1, 12)):
            start = rng.randrange(len(corpus))
            parts.append(
                rng.choice([rng.choice(assigned), rng.choice(ODD), corpus[start : start + rng.randint(1, 12)]])
            )
        texts.append("".join(parts))
    return texts


def train_others(corpus: str) -> None:
    hf: Any = importlib.import_module("tokenizers")
    pre = hf.pre_tokenizers
    split = {
        name: [pre.Split(hf.Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        for name, pattern in (("llama3", LLAMA3), ("qwen2", QWEN2))
    }
    forms = {
        "gpt2": pre.ByteLevel(add_prefix_space=False),
        "llama3": pre.Sequence(split["llama3"]),
        "qwen2": pre.Sequence(split["qwen2"]),
        "smollm": pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]),
    }
    for name, pre_tokenizer in forms.items():
        tokenizer = hf.Tokenizer(hf.models.BPE(ignore_merges=name == "llama3"))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = hf.decoders.ByteLevel()
        if name == "qwen2":
            tokenizer.normalizer = hf.normalizers.NFC()
        alphabet = pre.ByteLevel.alphabet()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE - 1, initial_alphabet=alphabet, special_tokens=SPECIAL[:1], show_progress=False
        )
        tokenizer.train_from_iterator([corpus], trainer)
        tokenizer.add_special_tokens(SPECIAL[1:])
        tokenizer.post_processor = hf.processors.ByteLevel(trim_offsets=False)
        if name == "llama3":
            template = hf.processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
            tokenizer.post_processor = hf.processors.Sequence([tokenizer.post_processor, template])
        tokenizer.save(str(HERE / f"hf_{name}.json"), pretty=False)
    rustbpe: Any = importlib.import_module("rustbpe")
    for name, pattern in (("gpt2", forms_of_tiktoken()["gpt2"]), ("gpt4", forms_of_tiktoken()["gpt4"])):
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator([corpus], VOCAB_SIZE, pattern=pattern)
        ranks = {base64.b64encode(bytes(token)).decode(): rank for token, rank in tokenizer.get_mergeable_ranks()}
        (HERE / f"rust_{name}.json").write_text(json.dumps({"pattern": pattern, "ranks": ranks}), encoding="utf-8")


def forms_of_tiktoken() -> dict[str, str]:
    return {
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        "gpt4": GPT4.replace("{1,3}", "{1,3}+"),
    }


def encoders() -> dict[str, Callable[[str], list[int]]]:
    """Return the encoder of a peer for each file."""
    hf: Any = importlib.import_module("tokenizers")
    tiktoken: Any = importlib.import_module("tiktoken")
    found: dict[str, Callable[[str], list[int]]] = {}
    for path in sorted(HERE.glob("*.json")):
        if path.stem.startswith("rust"):
            content = json.loads(path.read_text(encoding="utf-8"))
            ranks = {base64.b64decode(token): rank for token, rank in content["ranks"].items()}
            encoding = tiktoken.Encoding(
                path.stem, pat_str=content["pattern"], mergeable_ranks=ranks, special_tokens={}
            )
            found[path.stem] = encoding.encode_ordinary
        else:
            tokenizer = hf.Tokenizer.from_file(str(path))
            found[path.stem] = functools.partial(ids_of_hugging_face, tokenizer)
    return found


def ids_of_hugging_face(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def main() -> None:
    rng = random.Random(20)
    corpus = make_corpus(rng)
    texts = make_texts(rng, corpus)
    train_others(corpus)
    for name in ("gpt2", "gpt4"):
        tokenizer = BPETokenizer.train(corpus, VOCAB_SIZE, pattern=name, special_tokens=SPECIAL)
        tokenizer.save(HERE / f"axone_{name}.json")
    arrays: dict[str, Any] = {}
    for name, encode in encoders().items():
        encoded = [encode(text) for text in texts]
        arrays[name] = np.array([id for ids in encoded for id in ids], dtype=np.uint16)
        arrays[f"{name}_counts"] = np.array([len(ids) for ids in encoded], dtype=np.uint16)
    arrays["texts"] = np.frombuffer("".join(texts).encode(), dtype=np.uint8)
    arrays["lengths"] = np.array([len(text) for text in texts], dtype=np.uint16)
    arrays["corpus"] = np.frombuffer(corpus.encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    (HERE / "samples.npz").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
