"""Protocols of tokenizers and of streaming decoders.

A tokenizer maps text to integers, called token ids, and back. Code that takes a `Tokenizer` works with
`CharTokenizer`, with `BPETokenizer` and with any other class that has these methods, without inheritance.

References
----------
.. [1] PEP 544, "Protocols: Structural subtyping", https://peps.python.org/pep-0544/
"""

import os
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class StreamDecoder(Protocol):
    """Decoder of ids that arrive one by one; it buffers the bytes of a character until it is complete.

    The concatenated results equal `Tokenizer.decode` of all ids, except that a `SentencePieceTokenizer` keeps the
    space at the begin, which its `decode` removes.

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
        """Decode one id and return the characters that it completes.

        Parameters
        ----------
        token : int
            A token id.

        Returns
        -------
        str
            Complete characters, often an empty string.

        Raises
        ------
        TokenizerError
            If the id is not in the vocabulary.
        """
        ...

    def push(self, ids: Iterable[int]) -> str:
        """Decode several ids and return the characters that they complete.

        Parameters
        ----------
        ids : iterable of int
            Token ids.

        Returns
        -------
        str
            Complete characters, or an empty string.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        ...

    def flush(self) -> str:
        """End the stream and return the buffered bytes as U+FFFD; the decoder can then be used again.

        Returns
        -------
        str
            U+FFFD for an incomplete character, otherwise an empty string.
        """
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """Tokenizer: text to token ids and back.

    Examples
    --------
    >>> from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer
    >>> text = "the cat sat on the mat"
    >>> tokenizers: list[Tokenizer] = [
    ...     CharTokenizer.train(text),
    ...     BPETokenizer.train(text, vocab_size=260),
    ... ]
    >>> [len(tokenizer.encode(text)) for tokenizer in tokenizers]
    [22, 14]
    >>> [tokenizer.decode(tokenizer.encode(text)) == text for tokenizer in tokenizers]
    [True, True]
    """

    @property
    def vocab_size(self) -> int:
        """Upper bound of token ids: every id is at least 0 and less than this."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token for the begin of a text, if there is one."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token for the end of a text, if there is one."""
        ...

    @property
    def add_bos_token(self) -> bool:
        """Whether the model expects `bos_token_id` before a text. `encode` does not add it."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Parameters
        ----------
        text : str
            Any text that the tokenizer can encode.

        Returns
        -------
        list of int
            The token ids.

        Raises
        ------
        TokenizerError
            If the text cannot be encoded; the message gives the position.
        """
        ...

    def encode_to_array(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text as an array, faster and smaller than a list for a large corpus.

        Parameters
        ----------
        text : str
            Any text that the tokenizer can encode.

        Returns
        -------
        ndarray of int32, shape (T,)
            The token ids.

        Raises
        ------
        TokenizerError
            If the text cannot be encoded; the message gives the position.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids.

        Parameters
        ----------
        ids : iterable of int
            Token ids: a list, an integer array, a generator.

        Returns
        -------
        str
            The text.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        ...

    def stream_decoder(self) -> StreamDecoder:
        """Return a new decoder for ids that arrive one by one.

        Returns
        -------
        StreamDecoder
            It never emits an incomplete character.
        """
        ...

    def token_repr(self, id: int, *, encoding: str = "utf-8") -> str:
        """Return one token as printable text on one line.

        Parameters
        ----------
        id : int
            A token id.
        encoding : str
            The encoding of the terminal; characters that it lacks are shown as code points.

        Returns
        -------
        str
            The text, with ``⏎`` for a line feed, ``→`` for a tab, ``<U+200D>`` for other characters that cannot be
            printed, and ``<e6>`` for each byte of an incomplete character.

        Raises
        ------
        TokenizerError
            If the id is not in the vocabulary.
        """
        ...

    def sha256(self) -> str:
        """Return the SHA-256 sum of the file that `save` writes, as the identity of the tokenizer.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        TokenizerError
            As `save`.
        """
        ...

    def tokenizer_config(self) -> dict[str, object]:
        """Return the content of the `tokenizer_config.json` for a folder with the `tokenizer.json`.

        transformers' ``AutoTokenizer`` returns the same ids if the folder holds both files. Without the second it may
        build another tokenizer.

        Returns
        -------
        dict
            The argument of `json.dumps`.
        """
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json` atomically.

        Parameters
        ----------
        path : path-like
            The file, or an existing folder to write it into.

        Raises
        ------
        TokenizerError
            If the format cannot express the tokenizer.
        OSError
            If it cannot be written.
        """
        ...
