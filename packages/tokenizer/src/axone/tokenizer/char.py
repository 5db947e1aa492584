"""Character tokenizer: one id for each Unicode code point of the training text.

This is the simplest tokenizer: it has no merges, so a text has as many ids as code points. A user-perceived character
of several code points (a flag, a letter with a combining accent) is several tokens. A character that the training
text did not hold is an error that names it, or one common id if an unknown token was given.

Its file is a `tokenizer.json` of Hugging Face: a BPE model without merges, whose tokens are concatenated.

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

from axone.tokenizer.base import BaseTokenizer
from axone.tokenizer.errors import TokenizerError, check_text, check_training_texts
from axone.tokenizer.files import Section, read_json
from axone.tokenizer.special_roles import SpecialRoles


class CharTokenizer(BaseTokenizer):
    """Character tokenizer, usually created by `train` or `load`.

    Parameters
    ----------
    vocabulary : mapping of str to int
        The id of each character: the ids are 0 to ``len(vocabulary) - 1``, each once.
    unknown : str or None
        The token of the vocabulary for all other characters: a character or a word such as ``"<unk>"``.
        None makes other characters an error.

    Attributes
    ----------
    vocabulary : mapping of str to int
        As given, read-only.
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
    axone.tokenizer.errors.TokenizerError: character 'p' (U+0070) at position 3 is not ...
    """

    vocabulary: Mapping[str, int]
    unknown: str | None

    def __init__(self, vocabulary: Mapping[str, int], *, unknown: str | None = None) -> None:
        characters = {token: id for token, id in vocabulary.items() if token != unknown or len(token) == 1}
        for token in vocabulary:
            check_text(token)
            if not token:
                raise TokenizerError("vocabulary holds an empty token: each must be one character")
        if not vocabulary:
            raise TokenizerError("vocabulary is empty: it must hold at least one character")
        if unknown is not None and unknown not in vocabulary:
            raise TokenizerError(f"unknown token {unknown!r} has no id: it must be in the vocabulary")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise TokenizerError(
                f"ids of {len(vocabulary)} tokens must be 0 to {len(vocabulary) - 1}, each once, without gaps"
            )
        for token in characters:
            if len(token) != 1:
                raise TokenizerError(
                    f"vocabulary holds {token!r}, but a token must be one character: use BPETokenizer for longer ones"
                )
        super().__init__({id: token.encode() for token, id in vocabulary.items()}, SpecialRoles())
        self.vocabulary = MappingProxyType(dict(vocabulary))
        self.unknown = unknown
        fallback = -1 if unknown is None else vocabulary[unknown]
        highest = max(map(ord, characters), default=-1)
        # One id for each code point up to the highest in the vocabulary; the last entry is for all others.
        self._table = np.full(highest + 2, fallback, dtype=np.int32)  # (highest + 2,)
        for token, id in characters.items():
            self._table[ord(token)] = id

    @classmethod
    def train(cls, text: str | Iterable[str], *, unknown: str | None = None) -> Self:
        """Train on a text: its distinct characters are the vocabulary.

        Parameters
        ----------
        text : str or iterable of str
            One text, or several, such as the lines of an open file.
        unknown : str or None
            A token for all characters that the text does not hold, such as ``"<unk>"``. It gets the last id; a
            character of the text keeps its id. None makes other characters an error.

        Returns
        -------
        CharTokenizer
            With ids in the order of code points.

        Raises
        ------
        TokenizerError
            If the text is empty, holds a lone surrogate, or is the name of a file.

        Examples
        --------
        >>> from axone.tokenizer import CharTokenizer
        >>> tokenizer = CharTokenizer.train("abc", unknown="<unk>")
        >>> tokenizer.decode(tokenizer.encode("cab!"))
        'cab<unk>'
        """
        check_training_texts(text)
        found = set[str]()
        for part in [text] if isinstance(text, str) else text:
            check_text(part)
            found.update(part)
        if not found:
            raise TokenizerError("text is empty: training needs at least one character")
        vocabulary = {character: id for id, character in enumerate(sorted(found))}
        if unknown is not None:
            vocabulary.setdefault(unknown, len(vocabulary))
        return cls(vocabulary, unknown=unknown)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a `tokenizer.json` that `save` wrote.

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
            If the file is damaged or not a character tokenizer.
        OSError
            If it cannot be read.
        """
        return cls.from_document(read_json(path))

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Create the tokenizer from the parsed JSON of a `tokenizer.json`.

        Parameters
        ----------
        document : object
            The result of `json.loads` or of `to_document`.

        Returns
        -------
        CharTokenizer
            With the ids of the document.

        Raises
        ------
        TokenizerError
            If it is not a character tokenizer.
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
            raise TokenizerError("tokenizer.json.model.unk_token must be null or a token of the vocabulary")
        return cls(vocabulary, unknown=unknown)

    def to_document(self) -> dict[str, object]:
        """Return the content of this tokenizer's `tokenizer.json`.

        Returns
        -------
        dict
            The argument of `json.dumps` and of `from_document`.
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
                "vocab": dict(sorted(self.vocabulary.items(), key=lambda item: item[1])),
                "merges": [],
            },
        }

    def encode(self, text: str) -> list[int]:
        """Return the id of each character.

        Parameters
        ----------
        text : str
            A text.

        Returns
        -------
        list of int
            One id per code point.

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
            The same ids as `encode`.

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
            if text[position] == "\ufeff":
                raise TokenizerError(
                    f"text has a byte order mark (U+FEFF) at position {position}, which is not in the vocabulary: "
                    "read the "
                    "file with encoding='utf-8-sig', which skips it"
                )
            raise TokenizerError(
                f"character {text[position]!r} (U+{ord(text[position]):04X}) at position {position} is not in the "
                "vocabulary of "
                f"{self.vocab_size} tokens: train on a text that holds it, or with unknown='<unk>'"
            )
        return ids

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters, unknown={self.unknown!r})"
