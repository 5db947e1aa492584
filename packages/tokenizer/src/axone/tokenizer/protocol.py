"""What every tokenizer of this package promises, and the one error that they raise.

A tokenizer turns text into integers, called token ids, and back. Code that takes a `Tokenizer` works with characters and
with byte-level BPE alike, and with any class of your own that has these methods; nothing here has to be inherited.

Sources: PEP 544, *Protocols: Structural subtyping*, https://peps.python.org/pep-0544/.
"""

import os
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class TokenizerError(ValueError):
    """What a user of a tokenizer can get wrong: text, ids, options or files. The message is one sentence."""


class StreamDecoder(Protocol):
    """Decodes ids as they arrive and holds back the bytes of a character until it is whole.

    The pieces, joined, are what `Tokenizer.decode` returns for all the ids at once.
    """

    def decode(self, token: int) -> str:
        """Take one id and return the text that it completes, which may be empty."""
        ...

    def push(self, ids: Iterable[int]) -> str:
        """Take several ids and return the text that they complete, which may be empty."""
        ...

    def flush(self) -> str:
        """End the stream and return what was held back: U+FFFD for a character that never became whole."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids: every id is at least 0 and less than this."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def encode_to_array(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text as an array, faster and smaller than a list for a large corpus."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids: lists and integer arrays alike."""
        ...

    def stream_decoder(self) -> StreamDecoder:
        """Return a fresh decoder for ids that arrive one by one."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json`: `path` is the file, or an existing folder to put it in."""
        ...


def text_to_bytes(text: str, encoding: str) -> bytes:
    """Encode text, refusing what no encoding of Unicode can hold: half of a surrogate pair."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"Text must be valid Unicode, but position {error.start} holds the lone surrogate "
            f"U+{ord(text[error.start]):04X}; read the text with errors='replace' or remove it.",
        ) from None
