"""A user's program with axone-tokenizer installed alone: `mypy --strict` reads the types from the wheel."""

from typing import assert_type

from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer

characters = CharTokenizer.train("hello world")
assert_type(characters.encode("hold"), list[int])
assert_type(characters.vocab_size, int)

pairs = BPETokenizer.train(["hello world"], vocab_size=260)
assert_type(pairs.decode(pairs.encode("hello")), str)

either: Tokenizer
for either in (characters, pairs):
    if either.decode(either.encode("hello")) != "hello":
        raise SystemExit("decoding must give back what was encoded")
