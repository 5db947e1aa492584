"""Error class of the package, and the check of text arguments that raises it."""


class TokenizerError(ValueError):
    """Invalid text, ids, options or files. The message is one sentence."""


def check_text(text: str) -> None:
    """Check that text is a str without lone surrogates, which UTF-8 cannot encode.

    Raises
    ------
    TypeError
        If it is not a str.
    TokenizerError
        If it holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"text must be a str, not {type(text).__name__}: decode bytes, and pass several texts one by one"
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"text holds the lone surrogate U+{ord(text[error.start]):04X} at position {error.start}, which is "
            "not valid "
            "Unicode: read the text with errors='replace' or remove it"
        ) from None
