"""A tokenizer whose tokens are characters: one id for each Unicode code point that the training text holds.

The simplest tokenizer that there is, and the one to learn on: nothing is merged, so a text has as many ids as code points.
A user-perceived character of several code points (a flag, a letter with a combining accent) is several tokens. It does not
know a character that it was not trained on: that is an error which names it, or one id for all of them if the user asks.

The file is a `tokenizer.json` of Hugging Face: a BPE model without merges, whose tokens are joined as they are.

References
----------
.. [1] A. Karpathy, nanoGPT (its character-level example), https://github.com/karpathy/nanoGPT
"""

import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.files import Section, read_json, write_json
from axone.tokenizer.protocol import StreamDecoder, TokenizerError, check_text
from axone.tokenizer.stream import ByteStreamDecoder


class CharTokenizer:
    """One token a character. Usually made by `train` or `load`.

    Parameters
    ----------
    vocabulary : Mapping[str, int]
        The id of each character: the ids are 0 to ``len(vocabulary) - 1``, each once.
    unknown : str or None
        The token of the vocabulary that stands for every other character: a character or a word such as ``"<unk>"``.
        None refuses text with other characters.

    Attributes
    ----------
    vocabulary : Mapping[str, int]
        As given, read only.
    unknown : str or None
        As given.

    Raises
    ------
    TokenizerError
        If the vocabulary or a token is empty, an id is missing or a token other than `unknown` is not one character.

    Examples
    --------
    >>> from axone.tokenizer import CharTokenizer
    >>> tokenizer = CharTokenizer.train("hello world")
    >>> tokenizer.encode("hold")
    [3, 5, 4, 1]
    >>> tokenizer.decode([3, 5, 4, 1])
    'hold'
    >>> tokenizer.encode("help!")
    Traceback (most recent call last):
        ...
    axone.tokenizer.protocol.TokenizerError: The character 'p' (U+0070) at position 3 is not among the 8 known ones; ...
    """

    vocabulary: Mapping[str, int]
    unknown: str | None

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: str | None = None) -> None:
        characters = {token: id for token, id in vocabulary.items() if token != unknown or len(token) == 1}
        for token in vocabulary:
            check_text(token)
            if not token:
                raise TokenizerError("A token must have text, but the vocabulary holds an empty one.")
        if not vocabulary:
            raise TokenizerError("A vocabulary must hold at least one character, but the text is empty.")
        if unknown is not None and unknown not in vocabulary:
            raise TokenizerError(f"The unknown token {unknown!r} must be in the vocabulary, but has no id there.")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise TokenizerError(
                f"The ids of {len(vocabulary)} tokens must be 0 to {len(vocabulary) - 1}, each once, without gaps."
            )
        for token in characters:
            if len(token) != 1:
                raise TokenizerError(
                    f"A token must be one character, but the vocabulary holds {token!r}; use BPE for longer ones."
                )
        self.vocabulary = MappingProxyType(dict(vocabulary))
        self.unknown = unknown
        self._tokens = {id: token for token, id in vocabulary.items()}
        fallback = -1 if unknown is None else vocabulary[unknown]
        highest = max(map(ord, characters), default=-1)
        # One id for each code point up to the highest known; the last entry stands for all above.
        self._table = np.full(highest + 2, fallback, dtype=np.int32)  # (highest + 2,)
        for token, id in characters.items():
            self._table[ord(token)] = id

    @classmethod
    def train(cls, text: str | Iterable[str], *, unknown: str | None = None) -> Self:
        """Collect the characters of a text.

        Parameters
        ----------
        text : str or Iterable[str]
            A text, or texts one after another, such as an open file.
        unknown : str or None
            A token for all characters that the text does not hold, such as ``"<unk>"``: it gets the last id, or that of the
            character itself if it is one of the text. None makes them errors.

        Returns
        -------
        CharTokenizer
            With ids in the order of code points.

        Raises
        ------
        TokenizerError
            If there is no text, or it holds a lone surrogate.

        Examples
        --------
        >>> from axone.tokenizer import CharTokenizer
        >>> tokenizer = CharTokenizer.train("abc", unknown="<unk>")
        >>> tokenizer.decode(tokenizer.encode("cab!"))
        'cab<unk>'
        """
        found = set[str]()
        for part in [text] if isinstance(text, str) else text:
            check_text(part)
            found.update(part)
        if not found:
            raise TokenizerError("Training needs at least one character of text, but the text is empty.")
        vocabulary = {character: id for id, character in enumerate(sorted(found))}
        if unknown is not None:
            vocabulary.setdefault(unknown, len(vocabulary))
        return cls(vocabulary, unknown=unknown)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `tokenizer.json` that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file, or the folder that holds it.

        Returns
        -------
        CharTokenizer
            With the ids of the file.

        Raises
        ------
        TokenizerError
            If the file is damaged, or no tokenizer of characters.
        OSError
            If it cannot be read.
        """
        return cls.from_document(read_json(path))

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Return the tokenizer that the JSON of a `tokenizer.json` describes.

        Parameters
        ----------
        document : object
            What `json.loads` makes of the file, or `to_document`.

        Returns
        -------
        CharTokenizer
            With the ids of the document.

        Raises
        ------
        TokenizerError
            If it is no tokenizer of characters.
        """
        top = Section(document, "tokenizer.json")
        top.expect("version", "1.0")
        for key in ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"):
            top.expect(key, None)
        top.expect("added_tokens", [])
        decoder = top.take_section("decoder")
        decoder.expect("type", "Fuse")
        decoder.finish()
        model = top.take_section("model")
        top.finish()
        model.expect("type", "BPE")
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            model.expect(key, None)
        for key in ("fuse_unk", "byte_fallback", "ignore_merges"):
            model.expect(key, False)
        model.expect("merges", [])
        vocabulary = model.take_vocabulary("vocab")
        unknown = model.take("unk_token")
        model.finish()
        if not (unknown is None or isinstance(unknown, str)):
            raise TokenizerError("tokenizer.json.model.unk_token must be null or a token of the vocabulary.")
        return cls(vocabulary, unknown=unknown)

    def to_document(self) -> dict[str, object]:
        """Return the JSON of this tokenizer's `tokenizer.json`.

        Returns
        -------
        dict[str, object]
            What `json.dumps` writes and `from_document` reads.
        """
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self.unknown,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: id for id, token in sorted(self._tokens.items())},
                "merges": [],
            },
        }

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Return the id of each character.

        Parameters
        ----------
        text : str
            A text.

        Returns
        -------
        list[int]
            As many ids as code points.

        Raises
        ------
        TokenizerError
            If a character is not in the vocabulary and there is no unknown token, or the text holds a lone surrogate.
        """
        ids: list[int] = self.encode_to_array(text).tolist()
        return ids

    def encode_to_array(self, text: str) -> NDArray[np.int32]:
        """Return the id of each character as an array.

        Parameters
        ----------
        text : str
            A text.

        Returns
        -------
        ndarray of int32, shape (T,)
            As `encode`, at about the speed of memory.

        Raises
        ------
        TokenizerError
            As `encode`.
        """
        check_text(text)
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")  # (T,)
        ids: NDArray[np.int32] = self._table[np.minimum(points, len(self._table) - 1)]  # (T,)
        if self.unknown is None and ids.size and ids.min() < 0:
            position = int(np.argmax(ids < 0))
            raise TokenizerError(
                f"The character {text[position]!r} (U+{ord(text[position]):04X}) at position {position} is not among the "
                f"{self.vocab_size} known ones; train on a text that has it, or with unknown='<unk>'."
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids.

        Parameters
        ----------
        ids : Iterable[int]
            Token ids: a list, an integer array, a generator.

        Returns
        -------
        str
            A character, or the unknown token, for each id.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        try:
            return "".join(map(self._tokens.__getitem__, ids.tolist() if isinstance(ids, np.ndarray) else ids))
        except KeyError as error:
            raise TokenizerError(f"Token ids must be 0 to {self.vocab_size - 1}, but {error} came.") from None

    def stream_decoder(self) -> StreamDecoder:
        """Return a decoder for ids that arrive one by one.

        Returns
        -------
        StreamDecoder
            It holds nothing back: a character is always whole.
        """
        return ByteStreamDecoder(lambda ids: self.decode(ids).encode())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json`, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file, or an existing folder to put it in.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        write_json(path, self.to_document())

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters, unknown={self.unknown!r})"
