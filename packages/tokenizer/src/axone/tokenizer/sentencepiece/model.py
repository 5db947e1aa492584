"""Data of a SentencePiece BPE tokenizer with byte fallback."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import brief
from axone.tokenizer.special_roles import SpecialRoles

SPACE = "▁"  # U+2581, which replaces every space
Prefix: TypeAlias = Literal["prepend", "always", "first", "never"]


@dataclass(frozen=True)
class SentencePieceModel:
    """Vocabulary, merges and special tokens.

    Parameters
    ----------
    vocabulary : mapping of str to int
        The ids of ordinary tokens, in which ``▁`` replaces the space. All ids differ.
    byte_ids : sequence of int
        The ids of the 256 byte tokens, which encode characters that are not in the vocabulary.
    merges : sequence of (int, int)
        The pairs of ids that are merged, lowest rank first. The concatenated text of a pair is in the vocabulary.
    prefix : {"prepend", "always", "first", "never"}
        When ``▁`` is added before a part of the text: before each part between special tokens, before each that does
        not begin with it, before the begin of the text if that does not begin with it, or never.
    strip_prefix : bool
        Whether decoding removes one space at the begin of the text.
    special_tokens, added_tokens : mapping of str to int
        As in `BPEModel`.
    roles : SpecialRoles
        The tokens for the begin and the end of a text, for unknown text and for padding.
    post_processor : object
        The part of that name in a `tokenizer.json`, kept for saving.
    scores : sequence of float
        The score of each id in a GGUF file, kept for writing one; empty if the merges come from another file.

    Raises
    ------
    TokenizerError
        If two tokens have the same id, or a merge is outside the vocabulary or repeated.
    """

    vocabulary: Mapping[str, int]
    byte_ids: Sequence[int]
    merges: Sequence[tuple[int, int]]
    prefix: Prefix = "prepend"
    strip_prefix: bool = True
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    roles: SpecialRoles = field(default_factory=SpecialRoles)
    post_processor: object = None
    scores: Sequence[float] = ()

    def __post_init__(self) -> None:
        ids = [*self.vocabulary.values(), *self.byte_ids, *self.special_tokens.values(), *self.added_tokens.values()]
        if len(self.byte_ids) != 256:
            raise TokenizerError(f"vocabulary has {len(self.byte_ids)} byte tokens: byte fallback needs 256")
        if len(set(ids)) != len(ids):
            id, _ = Counter(ids).most_common(1)[0]
            raise TokenizerError(f"id {id} belongs to two tokens: all ids must differ")
        if len(set(self.merges)) != len(self.merges):
            pair, _ = Counter(self.merges).most_common(1)[0]
            raise TokenizerError(f"merges hold the pair {pair} twice: each pair must be merged once")
        if "" in self.vocabulary or "" in self.special_tokens or "" in self.added_tokens:
            raise TokenizerError("vocabulary holds an empty token: each must have at least one character")
        _ = self.products  # raises for merges outside the vocabulary
        self.roles.check(self.tokens)

    @cached_property
    def names(self) -> dict[int, str]:
        """Text of each id as files write it."""
        names = {id: text for text, id in (*self.vocabulary.items(), *self.special_tokens.items())}
        names |= {id: text for text, id in self.added_tokens.items()}
        return names | {id: byte_name(byte) for byte, id in enumerate(self.byte_ids)}

    @cached_property
    def tokens(self) -> dict[int, bytes]:
        """Bytes of each id, with spaces."""
        tokens = {id: text.replace(SPACE, " ").encode() for id, text in self.names.items()}
        return tokens | {id: bytes((byte,)) for byte, id in enumerate(self.byte_ids)}

    @cached_property
    def products(self) -> list[int]:
        """Id that each merge creates."""
        names = {id: text for text, id in self.vocabulary.items()}
        try:
            return [self.vocabulary[names[left] + names[right]] for left, right in self.merges]
        except KeyError as error:
            shown = brief(error.args[0])
            raise TokenizerError(f"merges use the token {shown}, which is not in the vocabulary") from None

    @cached_property
    def splits_before_space(self) -> bool:
        """Whether no merge crosses from another character to ``▁``, so that text can be split there."""
        crossing = re.compile(f"[^{SPACE}]{SPACE}")
        names = self.names
        return not any(crossing.search(names[product]) for product in self.products)


def byte_name(byte: int) -> str:
    """Return the text of a byte token, such as ``<0x0A>``."""
    return f"<0x{byte:02X}>"
