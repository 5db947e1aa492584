"""Tests of files: round trips, the forms of other libraries, and refusal of damaged or unsupported parts."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.tokenizer import BPETokenizer, TokenizerError, load
from axone.tokenizer.bpe import patterns
from axone.tokenizer.bpe.model import BPEModel

Document = dict[str, object]
Random = Callable[[random.Random, int], str]
SAMPLE = "The dog's 1234567 dogs,  文字 <tool> e\u0301 \n\n 😀"


@pytest.fixture(scope="module")
def document(corpus: str) -> Document:
    """A file in the form of Llama-3: a pattern, ignore_merges, a template, an added and a special token."""
    tokenizer = BPETokenizer.train(corpus, 330, pattern=patterns.LLAMA3, special_tokens=["<tool>", "<|begin|>"])
    document = tokenizer.to_document()
    tool = section(document, "added_tokens", 0)
    tool["special"] = False
    section(document, "model")["ignore_merges"] = True
    begin = {"id": "<|begin|>", "ids": [329], "tokens": ["<|begin|>"]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin|>": begin},
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    document["post_processor"] = {"type": "Sequence", "processors": [byte_level, template]}
    return document


def section(document: object, *path: str | int) -> Document:
    for step in path:
        document = document[step]  # type: ignore[index]  # JSON that the tests made
    assert isinstance(document, dict)
    return document


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_saved_file_loads_the_same_tokenizer(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for loaded in (load(tmp_path), BPETokenizer.load(tmp_path / "tokenizer.json")):
        assert isinstance(loaded, BPETokenizer)
        assert loaded.merges == tokenizer.merges
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.pattern == tokenizer.pattern
        assert loaded.encode(SAMPLE) == tokenizer.encode(SAMPLE)
        assert loaded.to_document() == tokenizer.to_document()


def test_all_parts_of_a_file_are_kept(document: Document, tmp_path: Path) -> None:
    first = load(write(tmp_path / "first.json", document))
    first.save(tmp_path / "second.json")
    assert json.loads((tmp_path / "second.json").read_text(encoding="utf-8")) == document
    assert first.encode("a<tool>b")[1] == 328
    with pytest.raises(TokenizerError, match="spells the special"):
        first.encode("<|begin|>")


def test_a_loaded_file_keeps_its_own_ids(tmp_path: Path, corpus: str) -> None:
    """Special tokens first, as Hugging Face trains; bytes in the order of their characters, as in GPT-2."""
    trained = BPETokenizer.train(corpus, 400, special_tokens=["<s>"])
    document = trained.to_document()
    vocabulary = section(document, "model", "vocab")
    order = ["<s>", *sorted(vocabulary.keys() - {"<s>"})]
    section(document, "model")["vocab"] = ids = {token: id for id, token in enumerate(order)}
    section(document, "added_tokens", 0)["id"] = 0
    loaded = load(write(tmp_path / "tokenizer.json", document))
    names = {id: token for token, id in vocabulary.items() if isinstance(id, int)}
    assert loaded.encode(corpus) == [ids[names[id]] for id in trained.encode(corpus)]
    assert loaded.decode(loaded.encode(corpus)) == corpus


def test_both_spellings_of_merges_are_read(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    document = tokenizer.to_document()
    model = section(document, "model")
    pairs = model["merges"]
    assert isinstance(pairs, list)
    model["merges"] = [" ".join(pair) for pair in pairs]
    assert BPETokenizer.load(write(tmp_path / "old.json", document)).merges == tokenizer.merges


@pytest.mark.parametrize(
    ("pre_tokenizer", "pattern"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, patterns.GPT2),
        ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, patterns.GPT2),
        ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}, None),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                ],
            },
            patterns.SMOLLM,
        ),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                ],
            },
            r"\p{L}+",
        ),
    ],
)
def test_forms_of_pre_tokenization_are_read(document: Document, pre_tokenizer: object, pattern: str | None) -> None:
    assert BPETokenizer.from_document(document | {"pre_tokenizer": pre_tokenizer}).pattern == pattern


def test_normalization_is_read_and_done(document: Document) -> None:
    changed = copy.deepcopy(document) | {"normalizer": {"type": "NFC"}}
    tokenizer = BPETokenizer.from_document(changed)
    assert tokenizer.decode(tokenizer.encode("e\u0301")) == "é"
    assert tokenizer.to_document() == changed
    section(changed, "added_tokens", 0)["normalized"] = True
    with pytest.raises(TokenizerError, match=r"normalized \(true\) is not supported"):
        BPETokenizer.from_document(changed)


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        ([], "version", "2.0", "version"),
        ([], "truncation", {"max_length": 5}, "truncation"),
        ([], "padding", {}, "padding"),
        ([], "surprise", None, "surprise"),
        ([], "normalizer", {"type": "NFKC"}, "NFC"),
        ([], "normalizer", {"type": "NFC", "surprise": 1}, "surprise"),
        ([], "pre_tokenizer", None, "pre_tokenizer"),
        ([], "pre_tokenizer", {"type": "Whitespace"}, "Whitespace"),
        ([], "pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}, "add_prefix_space"),
        ([], "pre_tokenizer", {"type": "ByteLevel"}, "add_prefix_space"),
        ([], "pre_tokenizer", {"type": "Sequence", "pretokenizers": []}, "0 steps"),
        (["pre_tokenizer", "pretokenizers", 0], "behavior", "Removed", "Removed"),
        (["pre_tokenizer", "pretokenizers", 0], "invert", True, "invert"),
        (["pre_tokenizer", "pretokenizers", 0], "pattern", {"String": " "}, "Regex"),
        (["pre_tokenizer", "pretokenizers", 0], "pattern", {"Regex": "("}, "an unbalanced"),
        (["pre_tokenizer", "pretokenizers", 0], "type", "Punctuation", "Punctuation"),
        (["pre_tokenizer", "pretokenizers", 1], "type", "Digits", "ByteLevel"),
        (["pre_tokenizer", "pretokenizers", 1], "use_regex", True, "Split"),
        ([], "decoder", None, "decoder"),
        ([], "decoder", {"type": "WordPiece"}, "WordPiece"),
        ([], "post_processor", {"type": "BertProcessing"}, "BertProcessing"),
        (["post_processor", "processors", 1], "surprise", 1, "surprise"),
        (["post_processor", "processors", 1], "single", [{"Surprise": {}}], "Sequence"),
        (["post_processor", "processors", 1, "special_tokens", "<|begin|>"], "ids", [1, 2], "as many ids"),
        (["added_tokens", 0], "single_word", True, "single_word"),
        (["added_tokens", 0], "lstrip", True, "lstrip"),
        (["added_tokens", 0], "rstrip", True, "rstrip"),
        (["added_tokens", 0], "id", "328", "a token id"),
        (["added_tokens", 0], "id", 327, "327 and 328|328 and 327"),
        (["added_tokens", 0], "content", "<|begin|>", "twice"),
        (["added_tokens", 0], "content", "\ud800", "content"),
        (["added_tokens", 0], "surprise", 1, "surprise"),
        (["model"], "type", "Unigram", "Unigram"),
        (["model"], "dropout", 0.1, "dropout"),
        (["model"], "unk_token", "<unk>", "unk_token"),
        (["model"], "continuing_subword_prefix", "##", "continuing_subword_prefix"),
        (["model"], "byte_fallback", True, "byte_fallback"),
        (["model"], "ignore_merges", 1, "ignore_merges"),
        (["model"], "surprise", 1, "surprise"),
        (["model"], "vocab", ["a"], "vocab"),
        (["model", "vocab"], "<|missing|> ", 330, "characters that represent bytes"),
        (["model", "vocab"], "Ġt", True, "true"),
        (["model", "vocab"], "ĠĠĠ", 999, "has no token with id"),
        (["model", "vocab"], "!!!", 5, "has id 5 for both"),
        (["model"], "merges", {"a": "b"}, "merges"),
        (["model"], "merges", [["a", "b", "c"]], "two tokens"),
        (["model"], "merges", ["ab"], "two tokens"),
        (["model"], "merges", ["a  b"], "two tokens"),
        (["model"], "merges", [["a", 1]], "two tokens"),
        (["model"], "merges", [["Q", "Z"]], "'QZ', which is not"),
        (["model"], "merges", [["QQQQ", "Z"]], '"QQQQ", which is not'),
    ],
)
def test_unknown_and_damaged_parts_are_refused_by_name(
    document: Document, path: list[str | int], key: str, value: object, message: str
) -> None:
    changed = copy.deepcopy(document)
    section(changed, *path)[key] = value
    with pytest.raises(TokenizerError, match=message) as caught:
        BPETokenizer.from_document(changed)
    assert "\n" not in str(caught.value)


def test_a_merge_that_appears_twice_is_refused(document: Document) -> None:
    changed = copy.deepcopy(document)
    merges = section(changed, "model")["merges"]
    assert isinstance(merges, list)
    merges.append(merges[0])
    with pytest.raises(TokenizerError, match=r"hold the pair .* twice"):
        BPETokenizer.from_document(changed)


def test_a_pattern_from_a_file_runs_under_a_time_limit(document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.05)
    changed = copy.deepcopy(document)
    section(changed, "pre_tokenizer", "pretokenizers", 0)["pattern"] = {"Regex": r"(\w|\w\w)+\z"}
    with pytest.raises(TokenizerError, match="took more than"):
        BPETokenizer.from_document(changed).encode("a" * 80 + "!")


def test_an_inexpressible_tokenizer_is_not_saved(tmp_path: Path) -> None:
    vocabulary = {bytes((byte,)): byte for byte in range(256)}
    with pytest.raises(TokenizerError, match="id 256 has no token"):
        BPETokenizer(BPEModel(vocabulary, [], None, {"<s>": 257})).save(tmp_path)
    with pytest.raises(TokenizerError, match="both a special token and an ordinary one"):
        BPETokenizer(BPEModel(vocabulary, [], None, {"a": 256})).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_2_000_mutated_files_load_or_raise_tokenizer_error(document: Document, tmp_path: Path) -> None:
    rng = random.Random(12)
    path = tmp_path / "tokenizer.json"
    content = json.dumps(document).encode()
    refused = 0
    for i in range(2000):
        path.write_bytes(mutated_bytes(content, rng) if i % 2 else json.dumps(mutated_json(document, rng)).encode())
        try:
            tokenizer = load(path)
            tokenizer.decode(tokenizer.encode("The dogs"))
        except TokenizerError:
            refused += 1
    assert 1000 < refused < 2000


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + content[place + rng.randint(1, 50) :]
    if kind == 2:
        return content[:place] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 4))) + content[place:]
    return content[:place] + bytes((content[place] ^ 1 << rng.randrange(8),)) + content[place + 1 :]


def mutated_json(document: object, rng: random.Random) -> object:
    """Replace or remove one random value, with equal probability on each level."""
    document = copy.deepcopy(document)
    here: object = document
    while True:
        keys: list[str] | list[int] = list(here) if isinstance(here, dict) else list(range(len(here)))  # type: ignore[arg-type]  # a list
        key = rng.choice(keys)
        below = here[key]  # type: ignore[index]  # a list or a dictionary
        if isinstance(below, dict | list) and below and rng.random() < 0.8:
            here = below
            continue
        junk = rng.choice(
            [None, True, -1, 0, 7, 2**40, 1.5, "", "a", "Ġ", "\ud800", "a b", [], {}, ["a", "b"], {"a": 0}]
        )
        if rng.random() < 0.2:
            del here[key]  # type: ignore[attr-defined]  # a list or a dictionary
        else:
            here[key] = junk  # type: ignore[index]  # a list or a dictionary
        return document


# Ranks of tiktoken.


def test_ranks_give_the_same_tokenizer(tokenizer: BPETokenizer, random_text: Random) -> None:
    ranks = tokenizer.to_tiktoken()
    assert list(ranks.values()) == list(range(597))
    again = BPETokenizer.from_tiktoken(ranks, tokenizer.pattern, tokenizer.special_tokens)
    assert again.merges == tokenizer.merges
    assert again.special_tokens == tokenizer.special_tokens
    assert again.pattern == tokenizer.pattern
    rng = random.Random(13)
    for _ in range(200):
        text = random_text(rng, 20)
        assert again.encode_ordinary(text) == tokenizer.encode_ordinary(text)


def test_ranks_without_a_merge_are_found_as_whole_pieces() -> None:
    ranks = {bytes((byte,)): byte for byte in range(256)} | {b"ab": 256, b"abc": 257, b"whole": 258, b" x y": 259}
    tokenizer = BPETokenizer.from_tiktoken(ranks, "gpt2", {"<s>": 300})
    assert tokenizer.merges == [(97, 98), (256, 99)]
    assert tokenizer.encode("abc whole") == [257, 32, *b"whole"]
    assert tokenizer.encode("whole") == [258]
    assert tokenizer.vocab_size == 301
    assert tokenizer.to_tiktoken() == ranks


def test_files_with_more_merges_than_tokens_convert_to_ranks(tmp_path: Path) -> None:
    """Llama-3's files list every pair whose concatenation is a token; ranks need only those that occur."""
    tokenizer = BPETokenizer.train("abc abc abc ab", 259, pattern=r"\w+")
    document = tokenizer.to_document()
    merges = section(document, "model")["merges"]
    vocabulary = section(document, "model", "vocab")
    assert isinstance(merges, list)
    vocabulary["bc"] = 258
    merges += [["b", "c"], ["a", "bc"]]
    loaded = BPETokenizer.load(write(tmp_path / "tokenizer.json", document))
    again = BPETokenizer.from_tiktoken(loaded.to_tiktoken(), r"\w+")
    assert again.merges == [(97, 98), (256, 99), (98, 99)]
    assert again.encode("abc bc abcbc") == loaded.encode("abc bc abcbc")


def test_invalid_ranks_are_refused() -> None:
    with pytest.raises(TokenizerError, match="ranks hold 'a': 1"):
        BPETokenizer.from_tiktoken({"a": 1}, "gpt2")  # type: ignore[dict-item]  # a mistake on purpose
    with pytest.raises(TokenizerError, match="at least one token"):
        BPETokenizer.from_tiktoken({}, "gpt2")


def test_ids_out_of_the_order_of_merges_do_not_convert_to_ranks() -> None:
    vocabulary = {bytes((byte,)): byte for byte in range(256)} | {b"ab": 257, b"bc": 256}
    with pytest.raises(TokenizerError, match="order of its merges"):
        BPETokenizer(BPEModel(vocabulary, [(97, 98), (98, 99)], None)).to_tiktoken()
