"""HeldOutEnds: cuts near line ends, fractions, and the split of their tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.llm import HeldOutEnds, TokenDataset
from axone.tokenizer import CharTokenizer


def test_ends_come_last_and_begin_at_a_line() -> None:
    texts = ["".join(f"{name}{line}\n" for line in range(20)) for name in "ab"]
    begin_a, begin_b, end_a, end_b = HeldOutEnds(texts, 0.2)
    assert (begin_a + "\n" + end_a, begin_b + "\n" + end_b) == tuple(texts)
    assert end_a.startswith("a1")
    assert end_b.startswith("b1")
    assert 0.1 < len(end_a + end_b) / len("".join(texts)) < 0.3


@given(st.lists(st.text("ab \n", max_size=30), max_size=20), st.floats(0.01, 0.99))
def test_no_character_is_lost_besides_those_between(texts: list[str], validation: float) -> None:
    ends = HeldOutEnds(texts, validation)
    parts = list(ends._cut())
    for text, (beginning, end) in zip(texts, parts, strict=True):
        assert text in {beginning + between + end for between in ("", " ", "\n")}
    held, whole = sum(len(end) for _, end in parts), sum(map(len, texts))
    assert held <= validation * whole + 30


def test_many_short_texts_hold_out_their_fraction() -> None:
    ends = HeldOutEnds(["abc"] * 1000, 0.1)
    assert sum(len(end) for _, end in ends._cut()) == 300


def test_the_split_is_between_beginnings_and_ends() -> None:
    texts = HeldOutEnds(["x" * 50, "y" * 50], 0.1)
    tokenizer = CharTokenizer.train("xy\n")
    train, validation = texts.split(TokenDataset.from_texts(texts, tokenizer))
    assert tokenizer.decode(train.tokens.tolist()) == "x" * 45 + "\n" + "y" * 45 + "\n"
    assert tokenizer.decode(validation.tokens.tolist()) == "x" * 5 + "\n" + "y" * 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"validation \(.*\) must be in \(0, 1\)"):
        HeldOutEnds([], fraction)
