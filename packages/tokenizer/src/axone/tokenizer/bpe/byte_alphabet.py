"""GPT-2's alphabet: a visible character for each byte, in which files write tokens.

References
----------
.. [1] GPT-2's encoder, https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise


def _alphabet() -> list[str]:
    """Return a visible character for each byte: the one of Latin-1 if that is visible, otherwise one from U+0100."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


CHARACTERS = _alphabet()
_INVALID = "\ufffd"  # not in Latin-1
_TO_LATIN_1 = dict.fromkeys(range(256), _INVALID) | {
    ord(character): chr(byte) for byte, character in enumerate(CHARACTERS)
}


def to_bytes(tokens: Sequence[str]) -> list[bytes]:
    """Return the bytes of tokens that are written in the alphabet.

    Raises
    ------
    UnicodeEncodeError
        If a token holds another character.
    """
    data = "".join(tokens).translate(_TO_LATIN_1).encode("latin-1")
    return [data[start:stop] for start, stop in pairwise(accumulate(map(len, tokens), initial=0))]


def to_characters(token: bytes) -> str:
    """Return a token in the alphabet."""
    return "".join(map(CHARACTERS.__getitem__, token))
