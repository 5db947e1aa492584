"""Visible form of a token on one line, for listings and plots."""

_SYMBOLS = {"\n": "⏎", "\t": "→"}


def visible(token: bytes) -> str:
    """Return a token as printable text on one line.

    A line feed is ``⏎``, a tab ``→``, any other character that cannot be printed ``<U+200D>``, and each byte of a token that
    is not valid UTF-8 ``<e6>``.
    """
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    symbol = _SYMBOLS.get(character, character)
    return symbol if symbol.isprintable() else f"<U+{ord(character):04X}>"
