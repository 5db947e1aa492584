"""Tests of the vectorized patterns against their regular expressions, and of custom patterns."""

import random
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.tokenizer import TokenizerError
from axone.tokenizer.bpe import patterns
from axone.tokenizer.bpe.patterns import GPT2, GPT4, LLAMA3, QWEN2, SMOLLM, code_points, portable_pattern, pre_tokenizer
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR

KNOWN = {"gpt2": GPT2, "gpt4": GPT4, "llama3": LLAMA3, "qwen2": QWEN2, "smollm": SMOLLM}
known = pytest.mark.parametrize("pattern", KNOWN.values(), ids=KNOWN)
Random = Callable[[random.Random, int], str]
Pieces = Callable[[str, str | None], list[str]]


def split(text: str, pattern: str | None) -> list[str]:
    splitter = pre_tokenizer(pattern)
    pieces: list[str] = []
    for block in splitter.blocks(text):
        starts = splitter.split(block, code_points(block)).tolist()
        pieces += [block[start:stop] for start, stop in zip(starts, [*starts[1:], len(block)])]
    return pieces


@known
def test_a_vectorized_pattern_equals_its_regular_expression(
    pattern: str, random_text: Random, pieces_of: Pieces, assigned: Callable[[str], bool]
) -> None:
    rng = random.Random(1)
    for _ in range(3000):
        text = random_text(rng, 14)
        if assigned(text):
            assert split(text, pattern) == pieces_of(text, pattern), repr(text)


@known
def test_character_classes_equal_those_of_the_regular_expression(pattern: str, pieces_of: Pieces) -> None:
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    old = [character for character in characters if unicodedata.ucd_3_2_0.category(character) not in {"Cn", "Co"}]
    text = "".join(f"a{character}1{character} " for character in old)
    assert split(text, pattern) == pieces_of(text, pattern)


@known
def test_blocks_of_a_long_text_do_not_change_its_pieces(
    pattern: str, monkeypatch: pytest.MonkeyPatch, random_text: Random, pieces_of: Pieces
) -> None:
    monkeypatch.setattr(patterns, "_BLOCK", 7)
    rng = random.Random(2)
    for _ in range(500):
        text = "".join(rng.choices("aB'sl1 \n\t.中", k=60))
        assert split(text, pattern) == pieces_of(text, pattern), repr(text)


@pytest.mark.parametrize("pattern", [*KNOWN.values(), r"\s?\w+", None])
def test_separated_texts_are_split_as_single_ones(pattern: str | None, random_text: Random) -> None:
    rng = random.Random(3)
    for _ in range(500):
        texts = [random_text(rng, 5) for _ in range(rng.randint(1, 5))]
        single = [[*split(text, pattern), SEPARATOR] for text in texts]
        assert [*split(SEPARATOR.join(texts), pattern), SEPARATOR] == [
            piece for pieces in single for piece in pieces
        ], repr(texts)


@given(st.text(), st.sampled_from([r"\w+", r"(a)|(b)", r"\p{L}+|\d", r"a\z|\Ab", "."]))
def test_a_custom_pattern_keeps_all_text(text: str, pattern: str) -> None:
    pieces = split(text, pattern)
    assert "".join(pieces) == text
    assert all(pieces)


@given(st.text(alphabet="ab1 \n'"))
def test_a_custom_pattern_splits_at_its_matches(text: str) -> None:
    assert split(text, r"(?:a|b)+| |\n") == patterns._compile(r"(?:a|b)+| |\n|[1']+").findall(text)


def test_other_spellings_are_known() -> None:
    for spelling, pattern in patterns._SPELLINGS.items():
        assert portable_pattern(spelling, "fancy-regex") == pattern


@pytest.mark.parametrize(("spelling", "pattern"), patterns._SPELLINGS.items())
def test_other_spellings_are_equivalent(
    spelling: str, pattern: str, random_text: Random, pieces_of: Pieces, assigned: Callable[[str], bool]
) -> None:
    rng = random.Random(4)
    for _ in range(1000):
        text = random_text(rng, 12)
        if assigned(text):
            assert split(text, pattern) == pieces_of(text, spelling), repr(text)


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2,1}", "(?P<n>a)(?P<n", "*", "x" * 10_001])
def test_an_invalid_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(TokenizerError, match="pattern"):
        pre_tokenizer(pattern)


def test_a_slow_pattern_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.05)
    with pytest.raises(TokenizerError, match=r"more than 0\.1 s"):
        split("a" * 64 + "b", r"(a|a)+\z")
