"""Base class of tokenizers with merges: encoding, and the check for special tokens that a text must not spell."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.base import BaseTokenizer
from axone.tokenizer.bpe.encoder import TextEncoder
from axone.tokenizer.bpe.special_tokens import token_pattern
from axone.tokenizer.errors import TokenizerError, check_text
from axone.tokenizer.special_roles import SpecialRoles

_NONE: frozenset[str] = frozenset()


class SubwordTokenizer(BaseTokenizer):
    """Tokenizer with merges and special tokens.

    Parameters
    ----------
    tokens : mapping of int to bytes
        The bytes of each id.
    roles : SpecialRoles
        The special tokens with a role.
    encoder : TextEncoder
        Maps text to ids.
    """

    def __init__(self, tokens: Mapping[int, bytes], roles: SpecialRoles, encoder: TextEncoder) -> None:
        super().__init__(tokens, roles)
        self._encoder = encoder

    @property
    def special_tokens(self) -> dict[str, int]:
        """Ids of the special tokens, which a text must not spell unless they are allowed."""
        return dict(self._encoder.special_tokens)

    @property
    def added_tokens(self) -> dict[str, int]:
        """Ids of the user-defined tokens, which are always found in a text."""
        return dict(self._encoder.added_tokens)

    @abstractmethod
    def to_gguf(self) -> dict[str, object]:
        """Return the tokenizer metadata of a GGUF file, as Python values.

        Returns
        -------
        dict
            The keys that begin with ``tokenizer.ggml.``.

        Raises
        ------
        TokenizerError
            If the format cannot express the tokenizer.
        """

    def encode(self, text: str, *, allowed_special: Collection[str] | Literal["all"] = _NONE) -> list[int]:
        """Return the ids of a text.

        Parameters
        ----------
        text : str
            Any text.
        allowed_special : collection of str or "all"
            The special tokens that the text may spell: they become their ids. Keep the default for untrusted text, so
            that a user cannot insert the end of a text by typing it.

        Returns
        -------
        list of int
            The token ids.

        Raises
        ------
        TokenizerError
            If the text spells a special token that is not allowed, or holds a lone surrogate.
        """
        ids: list[int] = self.encode_to_array(text, allowed_special=allowed_special).tolist()
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of a text, encoding the spelling of special tokens as ordinary text.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list of int
            The token ids, without special ones.

        Raises
        ------
        TokenizerError
            If the text holds a lone surrogate.
        """
        check_text(text)
        ids: list[int] = self._encoder.encode(text, _NONE).tolist()
        return ids

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """Return the ids of a text in which special tokens are given as ids, between parts of ordinary text.

        It equals `encode` of the whole text, but a spelling of a special token in a part is ordinary text. Chat
        templates need this: what a user types must not become a special token.

        Parameters
        ----------
        parts : sequence of str or int
            Texts and ids of special tokens, in order.

        Returns
        -------
        list of int
            The token ids.

        Raises
        ------
        TokenizerError
            If a text holds a lone surrogate, or an id is not in the vocabulary.
        """
        for part in parts:
            if not isinstance(part, int):
                check_text(part)
            elif part not in self._tokens:
                raise TokenizerError(f"id {part} is not in the vocabulary, which has ids 0 to {self.vocab_size - 1}")
        ids: list[int] = self._encoder.encode_parts(parts).tolist()
        return ids

    def encode_batch(
        self, texts: Iterable[str], *, allowed_special: Collection[str] | Literal["all"] = _NONE
    ) -> list[list[int]]:
        """Return the ids of several texts. The distinct pieces of all texts are merged at once.

        Parameters
        ----------
        texts : iterable of str
            Any texts.
        allowed_special : collection of str or "all"
            As for `encode`.

        Returns
        -------
        list of list of int
            The token ids of each text.

        Raises
        ------
        TokenizerError
            As for `encode`.
        """
        if isinstance(texts, str):
            raise TypeError(
                "texts must be a list or another iterable of str, not one str: use encode for a single text"
            )
        texts = list(texts)
        allowed = self._check_special(texts, allowed_special)
        return [ids.tolist() for ids in self._encoder.encode_batch(texts, allowed)]

    def encode_to_array(
        self, text: str, *, allowed_special: Collection[str] | Literal["all"] = _NONE
    ) -> NDArray[np.int32]:
        """Return the ids of a text as an array, which takes at most a fourth of a list's memory.

        Parameters
        ----------
        text : str
            Any text.
        allowed_special : collection of str or "all"
            As for `encode`.

        Returns
        -------
        ndarray of int32, shape (T,)
            The token ids.

        Raises
        ------
        TokenizerError
            As for `encode`.
        """
        return self._encoder.encode(text, self._check_special([text], allowed_special))

    def _check_special(self, texts: Sequence[str], allowed_special: Collection[str] | Literal["all"]) -> frozenset[str]:
        """Return the allowed special tokens; raise if a text spells another one."""
        special = frozenset(self._encoder.special_tokens)
        if isinstance(allowed_special, str) and allowed_special != "all":
            raise TokenizerError(f'allowed_special ({allowed_special!r}) must be a set of special tokens or "all"')
        allowed = special if allowed_special == "all" else special.intersection(allowed_special)
        forbidden = token_pattern(special - allowed)
        for text in texts:
            check_text(text)
            if forbidden is not None and (found := forbidden.search(text)):
                raise TokenizerError(
                    f"text spells the special token {found.group()!r} at position {found.start()}: pass it in "
                    "allowed_special to "
                    "encode it as that token, or use encode_ordinary to encode it as ordinary text"
                )
        return allowed
