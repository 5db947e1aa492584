"""Data of a byte-level BPE tokenizer: the part that is trained, loaded and saved.

Every file format is converted from and to a `BPEModel`. Its constructor refuses inconsistent data.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from axone.tokenizer.bpe.flat_words import REMOVED, IntArray
from axone.tokenizer.errors import TokenizerError, check_text
from axone.tokenizer.special_roles import SpecialRoles


@dataclass(frozen=True)
class BPEModel:
    """Vocabulary, merges, special tokens and the preparation of text.

    Parameters
    ----------
    vocabulary : mapping of bytes to int
        The ids of ordinary tokens. All ids differ, those of special and added tokens included.
    merges : sequence of (int, int)
        The pairs of ids that are merged, lowest rank first. The concatenated bytes of a pair are in the vocabulary.
    pattern : str or None
        The regular expression of pre-tokenization; None keeps texts whole.
    special_tokens : mapping of str to int
        Control tokens, such as the end of a text: a text that spells one is refused unless it is allowed.
    added_tokens : mapping of str to int
        User-defined tokens: they are always found in a text, before pre-tokenization.
    ignore_merges : bool
        Whether a piece that is in the vocabulary becomes that token even if merges would not create it.
    normalization : str or None
        The Unicode normal form that is applied to text first: ``"NFC"`` or None.
    normalized_tokens : collection of str
        The special and added tokens that are searched after all others, as those of Hugging Face with that flag.
    post_processor : object
        The part of that name in a `tokenizer.json`, kept for saving.
    roles : SpecialRoles
        The tokens for the begin and the end of a text, for unknown text and for padding.

    Raises
    ------
    TokenizerError
        If the vocabulary is empty, two tokens have the same id, a merge is outside the vocabulary or repeated, or an
        id has no token.
    """

    vocabulary: Mapping[bytes, int]
    merges: Sequence[tuple[int, int]]
    pattern: str | None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    ignore_merges: bool = False
    normalization: str | None = None
    normalized_tokens: Collection[str] = frozenset()
    post_processor: object = None
    roles: SpecialRoles = field(default_factory=SpecialRoles)

    def __post_init__(self) -> None:
        if not self.vocabulary:
            raise TokenizerError("vocabulary is empty: it must hold at least one token")
        for text in (*self.special_tokens, *self.added_tokens):
            if not text:
                raise TokenizerError("special_tokens holds an empty token: each must have at least one character")
            check_text(text)
            if text in self.special_tokens and text in self.added_tokens:
                raise TokenizerError(f"token {text!r} is both special and added: it must be one of them")
        ids = [*self.vocabulary.values(), *self.special_tokens.values(), *self.added_tokens.values()]
        if b"" in self.vocabulary:
            raise TokenizerError("vocabulary holds an empty token: each must have at least one byte")
        if min(ids, default=0) < 0:
            raise TokenizerError(f"token id ({min(ids)}) must not be negative")
        if len(set(ids)) != len(ids):
            id = next(id for id, count in Counter(ids).items() if count > 1)
            raise TokenizerError(f"id {id} belongs to two tokens: all ids must differ")
        if len(set(self.merges)) != len(self.merges):
            pair, _ = Counter(self.merges).most_common(1)[0]
            raise TokenizerError(f"merges hold the pair {pair} twice: each pair must be merged once")
        _ = self.products  # raises for merges outside the vocabulary
        self.roles.check(self.tokens)

    @cached_property
    def tokens(self) -> dict[int, bytes]:
        """Bytes of each id, special and added tokens included."""
        tokens = {id: token for token, id in self.vocabulary.items()}
        tokens |= {id: text.encode() for text, id in (*self.special_tokens.items(), *self.added_tokens.items())}
        return tokens

    @cached_property
    def products(self) -> list[int]:
        """Id that each merge creates."""
        ordinary = {id: token for token, id in self.vocabulary.items()}
        try:
            return [self.vocabulary[ordinary[left] + ordinary[right]] for left, right in self.merges]
        except KeyError as error:
            key = error.args[0]
            shown = repr(key.decode(errors="backslashreplace")) if isinstance(key, bytes) else key
            raise TokenizerError(f"merges use the token {shown}, which is not in the vocabulary") from None

    @cached_property
    def byte_ids(self) -> IntArray:
        """Id of each byte, `REMOVED` for a byte without a token."""
        return np.array([self.vocabulary.get(bytes((byte,)), REMOVED) for byte in range(256)])
