"""Spelling of tokens: visible text for every token, also where it is whitespace or a part of a character."""

import sys
import unicodedata

from axone.tokenizer import BPETokenizer, Tokenizer

VISIBLE = {"\n": "⏎", "\t": "→\t"}


def spelled(tokenizer: Tokenizer, id: int) -> str:
    """Return a token as visible text: bytes of a partial character in hexadecimal, control characters as code points."""
    if isinstance(tokenizer, BPETokenizer):
        token = tokenizer.decode_bytes([id])
        try:
            text = token.decode()
        except UnicodeDecodeError:
            return "".join(f"<{byte:02x}>" for byte in token)
    else:
        text = tokenizer.decode([id])
    return "".join(map(visible, text))


def visible(character: str) -> str:
    """Return a visible form of a character: its code point if it has none, or none in the encoding of the terminal."""
    sign = VISIBLE.get(character, character)
    try:
        sign.encode(sys.stdout.encoding or "utf-8")
        seen = character in VISIBLE or unicodedata.category(character) not in {"Cc", "Cs", "Cn", "Co"}
    except UnicodeEncodeError:
        seen = False
    return (sign if seen else f"<U+{ord(character):04X}>") + "\n" * (character == "\n")
