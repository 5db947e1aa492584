"""What every tokenizer of this package promises, and the one error that they raise.

A tokenizer turns text into integers, called token ids, and back. Code that takes a `Tokenizer` works with characters and
with byte-level BPE alike, and with any class of your own that has these methods; nothing here has to be inherited.

References
----------
.. [1] PEP 544, "Protocols: Structural subtyping", https://peps.python.org/pep-0544/
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

    Examples
    --------
    >>> from axone.tokenizer import BPETokenizer
    >>> tokenizer = BPETokenizer.train("", vocab_size=256)  # a token for each byte
    >>> ids = tokenizer.encode("a 🐌")
    >>> decoder = tokenizer.stream_decoder()
    >>> [decoder.decode(id) for id in ids]
    ['a', ' ', '', '', '', '🐌']
    >>> decoder.push(ids[:-1])
    'a '
    >>> decoder.flush()
    '\ufffd'
    """

    def decode(self, token: int) -> str:
        """Take one id and return the text that it completes.

        Parameters
        ----------
        token : int
            A token id.

        Returns
        -------
        str
            Whole characters, and often none.

        Raises
        ------
        TokenizerError
            If the id is not in the vocabulary.
        """
        ...

    def push(self, ids: Iterable[int]) -> str:
        """Take several ids and return the text that they complete.

        Parameters
        ----------
        ids : Iterable[int]
            Token ids.

        Returns
        -------
        str
            Whole characters, or none.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        ...

    def flush(self) -> str:
        """End the stream and return what was held back; the decoder is then as new.

        Returns
        -------
        str
            U+FFFD for a character that never became whole, else nothing.
        """
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back.

    Examples
    --------
    >>> from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer
    >>> text = "the cat sat on the mat"
    >>> tokenizers: list[Tokenizer] = [CharTokenizer.train(text), BPETokenizer.train(text, vocab_size=260)]
    >>> [len(tokenizer.encode(text)) for tokenizer in tokenizers]
    [22, 14]
    >>> [tokenizer.decode(tokenizer.encode(text)) == text for tokenizer in tokenizers]
    [True, True]
    """

    @property
    def vocab_size(self) -> int:
        """Number of token ids: every id is at least 0 and less than this."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Parameters
        ----------
        text : str
            Any text that the tokenizer knows.

        Returns
        -------
        list[int]
            Its token ids.

        Raises
        ------
        TokenizerError
            If the text cannot be encoded; the message says where.
        """
        ...

    def encode_to_array(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text as an array, faster and smaller than a list for a large corpus.

        Parameters
        ----------
        text : str
            Any text that the tokenizer knows.

        Returns
        -------
        ndarray of int32, shape (T,)
            Its token ids.

        Raises
        ------
        TokenizerError
            If the text cannot be encoded; the message says where.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids.

        Parameters
        ----------
        ids : Iterable[int]
            Token ids: a list, an integer array, a generator.

        Returns
        -------
        str
            Their text.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        ...

    def stream_decoder(self) -> StreamDecoder:
        """Return a fresh decoder for ids that arrive one by one.

        Returns
        -------
        StreamDecoder
            It never shows half a character.
        """
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json`, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file, or an existing folder to put it in.

        Raises
        ------
        TokenizerError
            If no such file could say what the tokenizer is.
        OSError
            If it cannot be written.
        """
        ...


def check_text(text: str) -> None:
    """Refuse what is no text: anything but a `str`, and one with half of a surrogate pair, which no encoding of Unicode can hold."""
    if not isinstance(text, str):
        raise TypeError(
            f"Text must be a str, not {type(text).__name__}; decode bytes, and pass several texts one by one."
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"Text must be valid Unicode, but position {error.start} holds the lone surrogate "
            f"U+{ord(text[error.start]):04X}; read the text with errors='replace' or remove it.",
        ) from None
