"""Tests of regular expressions that engines read differently: they are refused or rewritten."""

import json
import time
from pathlib import Path

import pytest
import regex

from axone.tokenizer import BPETokenizer, TokenizerError
from axone.tokenizer.bpe import patterns
from axone.tokenizer.bpe.portable_regex import to_portable, to_regex
from axone.tokenizer.bpe.regex_parser import DIALECTS

KIMI = (  # the pattern of Kimi-K2 and that of BLOOM, which tokenizer.json files of real models hold
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"  # noqa: RUF001 - as in the file of the model


def document(pattern: str) -> dict[str, object]:
    """A `tokenizer.json` with a custom pattern."""
    content = BPETokenizer.train("a b", 258, pattern=r"\p{L}+|\P{L}").to_document()
    text = json.dumps(content).replace(json.dumps(r"\p{L}+|\P{L}"), json.dumps(pattern))
    loaded = json.loads(text)
    assert isinstance(loaded, dict)
    return loaded


def split(pattern: str, text: str) -> list[str]:
    return regex.findall(to_regex(pattern), text, regex.V1)


@pytest.mark.parametrize("pattern", [KIMI, BLOOM])
def test_set_operations_are_read_as_hugging_face_reads_them(pattern: str) -> None:
    tokenizer = BPETokenizer.from_document(document(pattern))
    assert tokenizer.pattern == pattern
    pieces = [tokenizer.decode_bytes([id]) for id in tokenizer.encode("a(b|c")]
    assert pieces == [b"a", b"(", b"b", b"|", b"c"]


def test_an_intersection_is_not_a_union() -> None:
    assert split(r"[\p{L}&&[^\p{Han}]]+|\p{Han}", "ab中文c&") == ["ab", "中", "文", "c"]
    assert split(BLOOM + r"|\s+|.", " a|b(c") == [" a", "|", "b", "(", "c"]


@pytest.mark.parametrize(
    ("pattern", "construct"),
    [
        (r"^ ?\p{L}+|.", r"\^"),
        (r"\p{L}+$|.", r"\$"),
        (r"\h+|.", r"\\h"),
        (r"(?m)a|.", r"\(\?m"),
        (r"\ba|.", r"\\b"),
        (r"a{2}?|.", r"\{n\}\?"),
        (r"(a)\1|.", r"\\1"),
        (r"[[:alpha:]]+|.", "POSIX"),
        (r"[a--b]|.", "--"),
        (r"[^\s\S]|.", "a negated set that holds a class twice"),
        (r"(?i:straße)|.", r"\(\?i:"),
        (r"(?i:st)|.", "ligature"),
        (r"(?<=ab)c|.", "lookbehind"),
        (r"\X|.", r"\\X"),
        (r"\p{Script=Han}|.", "property"),
        (r"a**|.", "two quantifiers"),
        (r"(?P<n>a)|.", "group"),
        (r"a*", "empty string"),
        (r"a|", "empty string"),
        (r"(?:a?)+b", "empty string"),
    ],
)
def test_constructs_that_engines_read_differently_are_refused_by_name(pattern: str, construct: str) -> None:
    with pytest.raises(TokenizerError, match=construct):
        BPETokenizer.from_document(document(pattern))
    if construct not in {r"\^", r"\$"}:  # anchors of the whole text in fancy-regex
        with pytest.raises(TokenizerError, match=construct):
            BPETokenizer.from_tiktoken({bytes((byte,)): byte for byte in range(256)}, pattern)
    with pytest.raises(TokenizerError, match=construct):
        BPETokenizer.train("a", 256, pattern=pattern)


def test_a_possessive_bound_of_tiktoken_is_a_repetition_in_a_file() -> None:
    """Hugging Face keeps "1234567" whole, tiktoken splits it."""
    loaded = BPETokenizer.from_document(document(r"\p{N}{1,3}+|\P{N}"))
    ranks = {bytes((byte,)): byte for byte in range(256)}
    assert loaded.pattern == r"(?:\p{N}{1,3})+|\P{N}"
    assert BPETokenizer.from_tiktoken(ranks, r"\p{N}{1,3}+|\P{N}").pattern == r"(?>\p{N}{1,3})|\P{N}"
    assert split(r"(?:\p{N}{1,3})+|\P{N}", "1234567") == ["1234567"]
    assert split(r"(?>\p{N}{1,3})|\P{N}", "1234567") == ["123", "456", "7"]


def test_word_characters_are_those_of_the_engine() -> None:
    """Oniguruma's include ² and ½, except within a set; those of the others include zero-width joiners."""
    onigurumas = to_portable(r"\w+|\W", "oniguruma")
    assert split(onigurumas, "x²½\u200d") == ["x²½", "\u200d"]
    assert split(to_portable(r"[\w]+|[\W]", "oniguruma"), "x²½\u200d") == ["x", "²", "½", "\u200d"]
    assert split(to_portable(r"\w+|\W", "fancy-regex"), "x²½\u200d") == ["x", "²", "½", "\u200d"]
    assert r"\w" not in onigurumas


def test_anchors_of_tiktoken_are_those_of_the_text() -> None:
    assert to_portable(r"^a|b$|\s++$|.", "fancy-regex") == r"\Aa|b\z|\s++\z|."
    assert split(r"b\z|\Aa|.|\n", "aab\nb") == ["a", "a", "b", "\n", "b"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "pattern",
    [KIMI, BLOOM, *patterns._VECTORIZED, r"\w+|\W", r"(?i:'s|k)|x{2,3}+|(?>a|b)+?.|[-a\]]|\pL|\t|\x20|\u00e9|[\ufeff]"],
)
def test_a_portable_pattern_stays_as_it_is(pattern: str, dialect: str) -> None:
    assert dialect in DIALECTS
    try:
        portable = to_portable(pattern, dialect)
    except TokenizerError:
        assert r"\pL" in pattern
        return
    assert [to_portable(portable, other) for other in DIALECTS] == [portable] * 3
    regex.compile(to_regex(portable), regex.V1)


@pytest.mark.parametrize(
    "pattern",
    ["a{1000000000}", "(?:a{1000}){1000}", "(?:a{100}){100}", "(?R)?a", "(" * 5000 + "a" + ")" * 5000, "[" * 5000],
)
def test_a_large_or_recursive_pattern_is_refused_before_it_is_compiled(pattern: str) -> None:
    """`a{1000000000}` took 29 s and 11.8 GB, `(?R)?a` was a MemoryError."""
    start = time.process_time()
    with pytest.raises(TokenizerError, match="pattern"):
        BPETokenizer.from_document(document(pattern))
    assert time.process_time() - start < 1


def test_a_saved_custom_pattern_loads_again(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train("the dog's 12 dogs", 300, pattern=r"\w+|\W")
    tokenizer.save(tmp_path)
    loaded = BPETokenizer.load(tmp_path)
    assert loaded.pattern == tokenizer.pattern
    assert loaded.encode("dogs ½") == tokenizer.encode("dogs ½")
    assert loaded.sha256() == tokenizer.sha256()
