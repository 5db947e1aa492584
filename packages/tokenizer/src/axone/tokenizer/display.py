"""Visible form of a token on one line, for listings and plots."""

_SYMBOLS = {"\n": "⏎", "\t": "→"}


def visible(token: bytes, encoding: str = "utf-8") -> str:
    """Return a token as printable text on one line.

    A line feed is ``⏎``, a tab ``→``, any other character that cannot be printed ``<U+200D>``, and each byte of a
    token that is not valid UTF-8 ``<e6>``. A character that the encoding of a terminal lacks is shown as its code
    point, too.
    """
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)
    return "".join(_visible_character(character, encoding) for character in text)


def _visible_character(character: str, encoding: str) -> str:
    symbol = _SYMBOLS.get(character, character)
    try:
        symbol.encode(encoding)
    except UnicodeEncodeError:
        symbol = character
    else:
        if symbol.isprintable():
            return symbol
    return f"<U+{ord(character):04X}>"
