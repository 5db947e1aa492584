"""Base class of the tokenizers: decoding, special tokens with a role, identity and saving."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import numpy as np

from axone.tokenizer.display import visible
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import to_json, write_json
from axone.tokenizer.protocol import StreamDecoder
from axone.tokenizer.special_roles import SpecialRoles, tokenizer_config
from axone.tokenizer.stream import ByteStreamDecoder


class BaseTokenizer(ABC):
    """Tokenizer whose tokens are byte strings.

    Parameters
    ----------
    tokens : mapping of int to bytes
        The bytes of each id.
    roles : SpecialRoles
        The special tokens with a role.
    """

    def __init__(self, tokens: Mapping[int, bytes], roles: SpecialRoles) -> None:
        self._tokens = tokens
        self._roles = roles
        self._vocab_size = max(tokens) + 1
        self._sha256: str | None = None

    @property
    def vocab_size(self) -> int:
        """Largest id plus one."""
        return self._vocab_size

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token for the begin of a text; None if there is none."""
        return self._roles.bos_token_id

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token for the end of a text; None if there is none."""
        return self._roles.eos_token_id

    @property
    def unk_token_id(self) -> int | None:
        """Id of the token for unknown text; None if there is none."""
        return self._roles.unk_token_id

    @property
    def pad_token_id(self) -> int | None:
        """Id of the token for padding; None if there is none."""
        return self._roles.pad_token_id

    @property
    def add_bos_token(self) -> bool:
        """Whether the model expects `bos_token_id` before a text. `encode` does not add it."""
        return self._roles.add_bos_token

    @property
    def add_eos_token(self) -> bool:
        """Whether the model expects `eos_token_id` after a text. `encode` does not add it."""
        return self._roles.add_eos_token

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids.

        Invalid UTF-8, such as an incomplete character, becomes U+FFFD; `decode_bytes` keeps it.

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
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ids.

        Parameters
        ----------
        ids : iterable of int
            As for `decode`.

        Returns
        -------
        bytes
            The concatenated bytes of the tokens, valid UTF-8 or not.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        try:
            return b"".join(map(self._tokens.__getitem__, ids.tolist() if isinstance(ids, np.ndarray) else ids))
        except KeyError as error:
            raise TokenizerError(
                f"id {error} is not in the vocabulary, which has ids 0 to {self.vocab_size - 1}"
            ) from None

    def stream_decoder(self) -> StreamDecoder:
        """Return a new decoder for ids that arrive one by one.

        Returns
        -------
        StreamDecoder
            It never emits an incomplete character.
        """
        return ByteStreamDecoder(self.decode_bytes)

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
        return visible(self.decode_bytes([id]), encoding)

    @abstractmethod
    def to_document(self) -> dict[str, object]:
        """Return the content of this tokenizer's `tokenizer.json`.

        Returns
        -------
        dict
            The argument of `json.dumps` and of `from_document`.

        Raises
        ------
        TokenizerError
            If the format cannot express the tokenizer: ids with gaps between them.
        """

    def tokenizer_config(self) -> dict[str, object]:
        """Return the content of the `tokenizer_config.json` for a folder with the `tokenizer.json`.

        transformers' ``AutoTokenizer`` returns the same ids if the folder holds both files. Without the second it may
        build another tokenizer.

        Returns
        -------
        dict
            The argument of `json.dumps`.
        """
        return tokenizer_config(self._roles, {id: self._tokens[id].decode() for id in self._roles.named().values()})

    def sha256(self) -> str:
        """Return the SHA-256 sum of the file that `save` writes, as the identity of the tokenizer.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        TokenizerError
            As `to_document`.
        """
        import hashlib  # 8 ms, rarely needed

        if self._sha256 is None:
            self._sha256 = hashlib.sha256(to_json(self.to_document())).hexdigest()
        return self._sha256

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json` atomically. `tokenizer_config` returns the file for transformers.

        Parameters
        ----------
        path : path-like
            The file, or an existing folder to write it into.

        Raises
        ------
        TokenizerError
            As `to_document`.
        OSError
            If it cannot be written.
        """
        write_json(path, self.to_document())
